"""Single values written into params.yaml: the rest of the file stays as it is."""

from __future__ import annotations

import pytest
import yaml

from metaloom.config.editing import write_params

TEXT = "train:  # how\n  steps: 3  # few\n  start:\nother: {a: 1}\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_as_they_did(tmp_path, end):
    path = tmp_path / "params.yaml"
    path.write_bytes(TEXT.replace("\n", end).encode())
    write_params(path, {"train.steps": 10})
    assert path.read_bytes().decode() == TEXT.replace("3 ", "10").replace("\n", end)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_key_that_earlier_versions_lack_is_added(tmp_path, end):
    path = tmp_path / "params.yaml"
    path.write_bytes(TEXT.replace("\n", end).encode())
    write_params(path, {"train.mode": "new", "other.b": None, "train.start": "there"}, new=True)
    expected = "train:  # how\n  mode: new\n  steps: 3  # few\n  start: there\nother: {b: null, a: 1}\n"
    assert path.read_bytes().decode() == expected.replace("\n", end)
    found = yaml.safe_load(path.read_text())
    assert found == {"train": {"mode": "new", "steps": 3, "start": "there"}, "other": {"b": None, "a": 1}}
