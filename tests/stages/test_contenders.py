"""A method is trained with several networks, and the one that validates best becomes its model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from staged import FOLDERS, PLAN, prepared_with, train_protonet
from tables import draw_tables

from metaloom.errors import MetaloomError
from metaloom.learner import Learner
from metaloom.stages import one_network, plan, prepare, train

SET = {"network.name": "identity", "contenders": ["whiten", "identity", "linear"], "protonet.steps": 20}


@pytest.fixture
def prepared(project, monkeypatch) -> Path:
    return prepared_with(project, monkeypatch, SET)


@pytest.mark.slow
def test_the_best_on_validation_is_the_model(prepared, capsys):
    metrics = train_protonet()
    assert list(metrics["networks"]) == ["identity", "whiten", "linear"]
    learner = Learner.load("artifacts/models/protonet")
    best = learner.config["network"]["name"]
    assert metrics["networks"][best] == max(metrics["networks"].values()) == metrics["validation"]["accuracy"]
    assert f"protonet with {best}, of identity, whiten, linear: " in capsys.readouterr().out
    assert metrics["validation"]["looks"] == 3 * 2  # steps 10 and 20 of each
    folder = Path("artifacts/models/protonet")
    assert sorted(path.name for path in folder.iterdir()) == [
        "curves", "learner.json", "metrics.json", "model.safetensors"
    ]  # fmt: skip
    assert not list(train.CHECKPOINTS.iterdir())


@pytest.mark.slow
def test_a_killed_run_keeps_the_networks_that_were_finished(prepared, monkeypatch):
    expected = train_protonet()
    steps, run = [], one_network.of_method

    def killed(trainer, *more):
        if trainer.learner.config["network"]["name"] == "linear":
            raise KeyboardInterrupt
        return run(trainer, *more)

    monkeypatch.setattr(one_network, "of_method", killed)
    with pytest.raises(KeyboardInterrupt):
        train_protonet()
    assert {path.name for path in train.CHECKPOINTS.iterdir()} == {
        "protonet.safetensors",
        "protonet.whiten.safetensors",
    }
    monkeypatch.setattr(one_network, "of_method", run)
    monkeypatch.setattr(train.Trainer, "_step", lambda *a, step=train.Trainer._step: steps.append(1) or step(*a))
    assert train_protonet() == expected
    assert len(steps) == 20  # those of `linear`


def test_a_network_that_does_not_fit_the_data_is_refused_before(repo, tmp_path, monkeypatch):
    params = (repo / "params.yaml").read_text().replace("min_examples: auto", "min_examples: 4")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.chdir(tmp_path)
    overrides = {"kind": "vectors", "network.name": "identity", "contenders": ["conv4", "mlp"]}
    monkeypatch.setenv("METALOOM_SET", json.dumps(overrides))
    draw_tables(tmp_path / "data", domains=3)
    prepare.main("data", FOLDERS[0])
    with pytest.raises(MetaloomError, match=r"conv4, made for other examples than rows of shape \(6,\): leave it out"):
        plan.main(FOLDERS[0], "budget.yaml", PLAN, "splits.yaml")
