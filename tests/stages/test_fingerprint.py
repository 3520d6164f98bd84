"""What a checkpoint is of: with another device, torch or engine training starts again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metaloom.networks import engine
from metaloom.stages import train


@pytest.fixture
def fingerprint(tmp_path, settings, monkeypatch) -> Callable[..., str]:
    """Of a run on data that stay as they are, by torch's layers; where something is given, with that."""
    for name in ("items.parquet", "classes.parquet", "episodes.parquet"):
        (tmp_path / name).write_text(name)
    monkeypatch.setenv(engine.ENGINE, "torch")

    def made(code: str = "code", device: str = "cpu", folder: Path = tmp_path) -> str:
        return train._fingerprint(code, {"a": 1}, settings, torch.device(device), str(folder), str(folder))

    return made


def test_another_device_torch_engine_or_code_is_another_run(fingerprint, monkeypatch):
    known = {fingerprint(), fingerprint(device="cuda"), fingerprint(device="mps"), fingerprint(code="other")}
    monkeypatch.setattr(torch, "__version__", "2.14.0")
    known.add(fingerprint(device="cuda"))
    monkeypatch.undo()
    monkeypatch.setattr(train, "ran_by", lambda network, device: "cpu, numba 1, products by torch 2")
    known.add(fingerprint())
    assert len(known) == 6


def test_the_same_run_is_known_again_on_any_card_of_a_kind(fingerprint):
    assert fingerprint() == fingerprint()
    assert fingerprint(device="cuda:1") == fingerprint(device="cuda")


def test_other_examples_are_another_run(fingerprint, tmp_path):
    before = fingerprint()
    (tmp_path / "items.parquet").write_text("others")
    assert fingerprint() != before
