"""The stage `pretrain` goes by its own name: in errors, in its checkpoint, in what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from metaloom.config import PRETRAIN, load_settings
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.learner import Learner
from metaloom.methods.shared import Shared
from metaloom.stages import prepare, pretrain, split, train

FOLDERS = ("artifacts/dataset", "artifacts/splits")


@pytest.fixture
def prepared(project, monkeypatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    prepare.main("data", FOLDERS[0])
    split.main(*FOLDERS, "splits.yaml")
    return project


def trainer(name: str, settings):
    packed, training = Dataset.load(FOLDERS[0]), train.training_classes(FOLDERS[1])
    return train.trainer_of(name, settings, packed, training, *FOLDERS, torch.device("cpu"), "code")


def test_it_trains_shared_by_its_own_settings_beside_shared(prepared, monkeypatch):
    settings = load_settings()
    own, shared = trainer(PRETRAIN, pretrain.own_settings(settings)), trainer("shared", settings)
    assert own.checkpoint != shared.checkpoint and own.fingerprint != shared.fingerprint
    assert isinstance(own.learner.method, Shared) and own.learner.method.settings == settings.pretrain
    assert own.settings.distortion == settings.pretrain.distortion and own.settings.within_domain == 0.0
    pretrain.main(*FOLDERS, "artifacts/pretrained", "metrics/training/pretrained.json")
    assert json.loads(Path("artifacts/pretrained/learner.json").read_text())["method"]["name"] == "pretrain"
    loaded = Learner.load("artifacts/pretrained")
    assert isinstance(loaded.method, Shared) and loaded.name == "pretrain"
    assert loaded.method.settings == settings.pretrain


def test_errors_name_its_section(prepared, monkeypatch):
    monkeypatch.setenv("METALOOM_SET", json.dumps({"pretrain.n_way": 10_000}))
    with pytest.raises(MetaloomError, match=r"params.yaml: pretrain.n_way is 10000, .* the largest that works is"):
        pretrain.main(*FOLDERS, "artifacts/pretrained", "metrics/training/pretrained.json")
    monkeypatch.setenv("METALOOM_SET", json.dumps({"train.processes": 2}))
    with pytest.raises(MetaloomError, match=r"params.yaml: pretrain.tasks_per_step is 1"):
        pretrain.main(*FOLDERS, "artifacts/pretrained", "metrics/training/pretrained.json")


def test_further_processes_start_the_same_stage(repo, monkeypatch):
    monkeypatch.chdir(repo)
    changes = {"train.processes": 2, "pretrain.tasks_per_step": 2, "maml.tasks_per_step": 4}
    monkeypatch.setenv("METALOOM_SET", json.dumps(changes))
    started = []
    monkeypatch.setattr(train, "launch", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(train, "check_processes", lambda processes, device: None)
    pretrain.main("dataset", "splits", "model", "metrics")
    train.main("maml", "dataset", "splits", "model", "metrics")
    own = ("metaloom.stages.pretrain", ["dataset", "splits", "model", "metrics"], 2)
    assert started == [own, ("metaloom.stages.train", ["maml", "dataset", "splits", "model", "metrics"], 2)]
