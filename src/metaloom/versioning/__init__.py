"""DVC and GTO, in process: data versions, revisions, registered models, and settings overridden for one run.

Importing this package does not import DVC: its functions do when they are called.
"""
