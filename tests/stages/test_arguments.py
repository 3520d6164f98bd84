"""A stage that dvc.yaml calls as another version of metaloom did."""

from __future__ import annotations

import sys

import pytest

from metaloom.stages import report, run_stage


@pytest.mark.parametrize("paths", [["a"] * 3, ["a"] * 8])
def test_other_paths_than_the_stage_takes_are_one_line_that_says_what_to_do(paths, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/somewhere/stages/report.py", *paths])
    monkeypatch.setattr("metaloom.stages.end_with_runner", lambda: None)
    with pytest.raises(SystemExit) as ended:
        run_stage(report.main)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert "dvc.yaml calls the stage report with other paths than this metaloom does (" in said
    assert "the dvc.yaml that `metaloom init` writes into a new folder" in said
