"""DVC and GTO, in process: data versions, revisions, registered models, and settings overridden for one run.

It is quick to load: DVC, and what builds the embedded data set, its functions load when they are called.
"""
