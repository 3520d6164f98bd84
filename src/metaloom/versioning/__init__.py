"""DVC, in process: data versions, the stages of dvc.yaml, and settings overridden for one run.

Nothing else imports DVC, and importing this package doesn't either: its functions do when they are called.
"""

from metaloom.pipeline.stages import Outcome, is_current, reproduce, stage_names
from metaloom.pipeline.success import record_success, unchanged_since_success
from metaloom.versioning.data import DataVersion, data_version, version_data, version_dataset
from metaloom.versioning.project import find_root, overriding

__all__ = [
    "DataVersion",
    "Outcome",
    "data_version",
    "find_root",
    "is_current",
    "overriding",
    "record_success",
    "reproduce",
    "stage_names",
    "unchanged_since_success",
    "version_data",
    "version_dataset",
]
