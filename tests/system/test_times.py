"""Times beside a stage's outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaloom.system.times import FOLDER, note_times, noted_times


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    note_times("protonet", weights, {"seconds": 3.5})
    return weights


def test_they_are_those_of_this_result(tmp_path: Path, weights: Path):
    assert noted_times(tmp_path, "protonet", weights) == {"seconds": 3.5}
    weights.write_bytes(b"another")
    assert noted_times(tmp_path, "protonet", weights) == {}
    weights.write_bytes(b"one")
    note_times("maml", weights, {"seconds": 1})
    assert noted_times(tmp_path, "protonet", weights) == {"seconds": 3.5}  # of each result its own
    weights.unlink()
    assert noted_times(tmp_path, "protonet", weights) == noted_times(tmp_path, "maml", weights) == {}


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "null"])
def test_a_damaged_file_is_none(tmp_path: Path, weights: Path, content: str):
    (path,) = FOLDER.iterdir()
    path.write_text(content)
    assert noted_times(tmp_path, "protonet", weights) == {}
