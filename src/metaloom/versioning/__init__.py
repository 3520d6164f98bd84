"""DVC and GTO, in process: data versions, revisions, registered models, and settings overridden for one run.

Importing this package imports neither DVC nor what builds the embedded data set: its functions do when they are called.
"""
