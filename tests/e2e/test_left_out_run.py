"""A time budget that leaves out a method, under DVC."""

from __future__ import annotations

import json

import pytest
import yaml
from projects import run_here

from metaloom.planning.budget import BUDGET, Budget, write_budget


@pytest.mark.sweep
def test_a_run_without_the_method_that_is_left_out_is_whole_and_current(copied):
    params = yaml.safe_load((copied / "params.yaml").read_text())
    params["maml"]["steps"] = "auto"
    (copied / "params.yaml").write_text(yaml.safe_dump(params))
    write_budget(copied / BUDGET, Budget(minutes=3, left_out=("maml",)))
    run_here(copied, "dvc", "repro", "-q")
    assert [path.name for path in (copied / "artifacts/models/maml").iterdir()] == ["left_out.json"]
    scores = json.loads((copied / "artifacts/evaluation/figures.json").read_text())
    assert "protonet" in scores and "maml" not in scores
    assert json.loads((copied / "artifacts/bundle/metadata.json").read_text())["method"] == "protonet"
    assert "too little time for maml" in (copied / "report/index.html").read_text()
    assert "up to date" in run_here(copied, "dvc", "status").stdout
