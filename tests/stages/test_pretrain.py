"""The stage `pretrain` goes by its own name: in errors, in its checkpoint, in what it writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from projects import plan_for_plenty
from staged import FOLDERS, PLAN, prepared_with

from metaloom.config import PRETRAIN, load_settings
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.learner import Learner
from metaloom.methods.shared import Shared
from metaloom.stages import one_network, pretrain, train
from metaloom.training.selection import at_chance


@pytest.fixture
def prepared(project, monkeypatch) -> Path:
    return prepared_with(project, monkeypatch, {})


def trainer(name: str, settings):
    packed, training = Dataset.load(FOLDERS[0]), train.training_classes(FOLDERS[1])
    return train.trainer_of(name, settings, packed, training, *FOLDERS, torch.device("cpu"), "code")


@pytest.mark.slow
def test_it_trains_shared_by_its_own_settings_beside_shared(prepared, monkeypatch):
    settings = load_settings(plan=PLAN)
    own, shared = trainer(PRETRAIN, pretrain.own_settings(settings)), trainer("shared", settings)
    assert own.checkpoint != shared.checkpoint and own.fingerprint != shared.fingerprint
    assert isinstance(own.learner.method, Shared) and own.learner.method.settings == settings.pretrain
    assert own.settings.distortion == settings.pretrain.distortion and own.settings.within_domain == 0.0
    pretrain.main(*FOLDERS, PLAN, "artifacts/pretrained", "metrics/training/pretrained.json")
    assert json.loads(Path("artifacts/pretrained/learner.json").read_text())["method"]["name"] == "pretrain"
    loaded = Learner.load("artifacts/pretrained")
    assert isinstance(loaded.method, Shared) and loaded.name == "pretrain"
    assert loaded.method.settings == settings.pretrain


def test_errors_name_its_section(prepared, monkeypatch):
    monkeypatch.setenv("METALOOM_SET", json.dumps({"pretrain.n_way": 10_000}))
    with pytest.raises(MetaloomError, match=r"params.yaml: pretrain.n_way is 10000, .* the largest that works is"):
        pretrain.main(*FOLDERS, PLAN, "artifacts/pretrained", "metrics/training/pretrained.json")
    monkeypatch.setenv("METALOOM_SET", json.dumps({"train.processes": 2}))
    with pytest.raises(MetaloomError, match=r"params.yaml: pretrain.tasks_per_step is 1"):
        pretrain.main(*FOLDERS, PLAN, "artifacts/pretrained", "metrics/training/pretrained.json")


@pytest.mark.parametrize("stays", [True, False])
def test_a_loss_that_stays_at_chance_is_said_once_and_recorded(prepared, monkeypatch, capsys, stays):
    monkeypatch.setattr(one_network, "at_chance", lambda record, **shape: stays)
    monkeypatch.setenv("METALOOM_SET", json.dumps({"train.validate_every": 5}))
    pretrain.main(*FOLDERS, PLAN, "artifacts/pretrained", "metrics/training/pretrained.json")
    metrics = json.loads(Path("artifacts/pretrained/metrics.json").read_text())
    assert ("at_chance" in metrics) == stays
    said = capsys.readouterr().out
    assert said.count("pretrain: after 10 of 20 steps the loss is") == stays == said.count("no better than guessing")


def test_chance_is_the_loss_of_one_that_guesses(prepared):
    settings = load_settings(plan=PLAN)
    protonet, shared = (trainer(name, settings).learner.method for name in ("protonet", PRETRAIN))
    assert protonet.chance(24) == pytest.approx(math.log(8)) and shared.chance(24) == pytest.approx(math.log(24))
    record, shape = {"loss": 2.1, "accuracy": 0.4}, {"classes": 24, "n_way": 3}
    assert at_chance(record, protonet, **shape) and not at_chance(record, shared, **shape)
    assert not at_chance(record | {"accuracy": 0.7}, protonet, **shape)


def test_further_processes_start_the_same_stage(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(repo)
    changes = {"train.processes": 2, "pretrain.tasks_per_step": 2, "maml.tasks_per_step": 4}
    monkeypatch.setenv("METALOOM_SET", json.dumps(changes))
    started = []
    monkeypatch.setattr(train, "launch", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(train, "check_processes", lambda processes, device: None)
    places = ["dataset", "splits", plan_for_plenty(tmp_path), "model", "metrics"]
    pretrain.main(*places)
    train.main("maml", *places)
    own = ("metaloom.stages.pretrain", places, 2)
    assert started == [own, ("metaloom.stages.train", ["maml", *places], 2)]
