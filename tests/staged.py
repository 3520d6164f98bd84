"""Stages run one after the other in this process, in the folder that a test stands in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metaloom.data.packed import Dataset
from metaloom.stages import embed, plan, prepare, split, train

FOLDERS, PLAN = ("artifacts/dataset", "artifacts/splits"), "artifacts/plan.json"
MODEL = Path("artifacts/models/protonet")


def give(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, Any], **more: object) -> None:
    """Settings for the stages; of `more` a double underscore in a name stands for a dot."""
    given = {**settings, **{name.replace("__", "."): each for name, each in more.items()}}
    monkeypatch.setenv("METALOOM_SET", json.dumps(given))


def prepared_with(project: Path, monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, Any]) -> Path:
    """The project up to its splits, as the folder that the test stands in."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    give(monkeypatch, settings)
    prepare.main("data", FOLDERS[0])
    planned()
    split.main(FOLDERS[0], PLAN, "splits.yaml", FOLDERS[1])
    return project


def planned() -> None:
    plan.main(FOLDERS[0], "budget.yaml", PLAN, "splits.yaml")


def train_protonet() -> dict[str, Any]:
    """Its metrics."""
    train.main("protonet", *FOLDERS, PLAN, str(MODEL), "metrics/training/protonet.json")
    return json.loads((MODEL / "metrics.json").read_text())


def packed_and_embedded() -> Dataset:
    """What the stage `embed` makes of `data`."""
    prepare.main("data", "dataset")
    embed.main("dataset", "embedded")
    return Dataset.load("embedded")
