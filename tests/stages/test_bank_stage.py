"""The train stage of a bank, twice: the second time with one more domain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from projects import REPO

from metaloom.stages import plan, prepare, split, train
from metaloom.system.times import noted_times

BANK = {
    "methods": ["bank"],
    "split.validation": ["domain8"],
    "split.test": ["domain9"],
    "episodes.settings": ["3w1s"],
    "baselines.settings": ["3w1s"],
    "bank.window": 2,
    "bank.stride": 2,
    "bank.n_way": 4,
    "bank.steps": 4,
    "train.validate_every": 2,
}


def run_stages() -> tuple[dict, dict]:
    """learner.json, and metrics/training/bank.json with the times beside the outputs."""
    prepare.main("data", "artifacts/dataset")
    plan.main("artifacts/dataset", "budget.yaml", "artifacts/plan.json", "splits.yaml")
    split.main("artifacts/dataset", "artifacts/plan.json", "splits.yaml", "artifacts/splits")
    places = "artifacts/splits", "artifacts/plan.json", "artifacts/models/bank", "metrics/training/bank.json"
    train.main("bank", "artifacts/dataset", *places)
    learner, metrics = (
        json.loads(Path(p).read_text()) for p in ("artifacts/models/bank/learner.json", "metrics/training/bank.json")
    )
    return learner, metrics | noted_times(Path(), "bank", Path("artifacts/models/bank/model.safetensors"))


@pytest.mark.slow
def test_one_more_domain_trains_what_it_touches(make, monkeypatch, capsys):
    root = make(BANK)
    monkeypatch.chdir(root)
    shutil.move(root / "data" / "domain3", root / "later")
    first, metrics = run_stages()
    covered = {domain for member in first["members"] for domain in member["domains"]}
    assert covered == {f"domain{n}" for n in (0, 1, 2, 4, 5, 6, 7)}
    assert metrics["steps"] == 4 * len(first["members"]) and metrics["examples_per_second"] > 0
    curve = (root / "artifacts/models/bank/curves/plots/metrics/validation/accuracy.tsv").read_text().splitlines()
    assert len(curve) == 1 + 2 * len(first["members"]) + 1
    shutil.move(root / "later", root / "data" / "domain3")
    second, _ = run_stages()
    old = {member["fingerprint"] for member in first["members"]}
    new = [member["domains"] for member in second["members"] if member["fingerprint"] not in old]
    assert new and all("domain3" in domains for domains in new)
    kept = len(second["members"]) - len(new)
    assert kept > 0
    assert f"{len(second['members'])} networks, {kept} of them taken over" in capsys.readouterr().out
    assert not Path(".metaloom/checkpoints/bank").exists()


def test_dvc_leaves_the_previous_model_for_it():
    (out,) = yaml.safe_load((REPO / "dvc.yaml").read_text())["stages"]["train"]["outs"]
    assert out == {"artifacts/models/${item.method}": {"persist": True}}


@pytest.fixture(autouse=True)
def no_dvc_analytics(monkeypatch):
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
