"""metadata.json of a bundle: what a receiver may want to know, typed. Format 3; reading it needs no torch."""

from __future__ import annotations

from metaloom.handoff.metadata.figures import Accuracy, Cost, DomainScore, Metrics, Rival, Score, Validation
from metaloom.handoff.metadata.whole import (
    Commit,
    FleetTask,
    Graph,
    Input,
    Metadata,
    Output,
    Provenance,
    Taken,
    Task,
    Versions,
    outputs,
    read_metadata,
    with_reading,
)

__all__ = [
    "Accuracy",
    "Commit",
    "Cost",
    "DomainScore",
    "FleetTask",
    "Graph",
    "Input",
    "Metadata",
    "Metrics",
    "Output",
    "Provenance",
    "Rival",
    "Score",
    "Taken",
    "Task",
    "Validation",
    "Versions",
    "outputs",
    "read_metadata",
    "with_reading",
]
