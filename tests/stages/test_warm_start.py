"""Training starts from an earlier model's weights where they fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from staged import MODEL, planned, prepared_with, train_protonet

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.pipeline.reading import _other_file
from metaloom.training.warm import WEIGHTS, earlier_model, taken_over

EARLIER = Path("earlier")
SET = {"protonet.steps": 20, "train.validate_every": 10}


@pytest.fixture
def prepared(project, monkeypatch) -> Path:
    return prepared_with(project, monkeypatch, SET)


def test_it_starts_from_the_earlier_weights_with_fewer_steps(prepared, monkeypatch, capsys):
    cold = train_protonet()
    assert cold["steps"] == 20 and not (MODEL / "read.json").exists()
    shutil.move(MODEL, EARLIER / "protonet")
    monkeypatch.setenv("METALOOM_SET", json.dumps(SET | {"train.start": "earlier", "train.start_steps": 0.1}))
    warm = train_protonet()
    assert (
        "protonet: starts from earlier/protonet (100% of the weights), with 10% of the steps" in capsys.readouterr().out
    )
    assert warm["steps"] == 2
    assert list(json.loads((MODEL / "read.json").read_text())) == ["earlier/protonet/model.safetensors"]
    before, after = (load_file(folder / WEIGHTS) for folder in (EARLIER / "protonet", MODEL))
    fresh = load_file(EARLIER / "protonet" / WEIGHTS)
    moved = max(float((after[key] - before[key]).abs().max()) for key in before if key.startswith("weights/"))
    assert 0 < moved < 0.1 and before.keys() == after.keys() == fresh.keys()


def test_other_weights_there_make_the_stage_due(tmp_path):
    class Stage:
        name = "train@protonet"
        repo = type("Repo", (), {"root_dir": str(tmp_path)})
        outs = [type("Out", (), {"fs_path": str(tmp_path / "model")})]

    (tmp_path / "model").mkdir()
    (tmp_path / "model/read.json").write_text('{"earlier": "0"}')
    (tmp_path / "earlier").write_text("weights")
    assert _other_file(Stage).startswith("earlier is another file than train@protonet has read")


@pytest.fixture
def learner(tiny_settings) -> Learner:
    return Learner.create("protonet", tiny_settings, PictureEncoding.of(np.zeros((4, 28, 28, 1), np.uint8)))


def test_weights_of_another_shape_stay_fresh_and_too_few_are_none(learner, tmp_path):
    learner.save(tmp_path)
    saved = load_file(tmp_path / WEIGHTS)
    widest = max((key for key in saved if key.startswith("weights/")), key=lambda key: saved[key].numel())
    others = {key: torch.full_like(value, 7.0) for key, value in saved.items()}
    save_file(others, tmp_path / WEIGHTS)
    assert taken_over(learner, tmp_path)[1] == 1.0
    save_file(others | {widest: torch.full((3,), 7.0)}, tmp_path / WEIGHTS)
    some, share = taken_over(learner, tmp_path)
    name = widest.removeprefix("weights/")
    assert 0.5 <= share < 1 and torch.equal(some.params.weights[name], learner.params.weights[name])
    save_file(
        {key: value for key, value in others.items() if key != widest and "weights" not in key} or {"a": torch.ones(1)},
        tmp_path / WEIGHTS,
    )
    assert taken_over(learner, tmp_path) == (learner, 0.0)
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(MetaloomError, match="take another folder for train.start"):
        taken_over(learner, tmp_path)


def test_a_bank_takes_its_own_networks_over(tmp_path):
    for method in ("bank", "protonet"):
        (tmp_path / method).mkdir()
        (tmp_path / method / WEIGHTS).touch()
    assert earlier_model(str(tmp_path), "bank") is None and earlier_model(None, "protonet") is None
    assert earlier_model(str(tmp_path), "protonet") == tmp_path / "protonet"


def test_a_folder_without_models_is_refused_before_anything_is_trained(prepared, monkeypatch):
    monkeypatch.setenv("METALOOM_SET", json.dumps(SET | {"train.start": "nowhere"}))
    copy = "train.start is nowhere, which has no model of protonet or maml: give a copy of an earlier run's models"
    with pytest.raises(MetaloomError, match=copy):
        planned()
    Path("nowhere.dvc").touch()
    with pytest.raises(MetaloomError, match="train.start is nowhere, which .*: `dvc pull nowhere.dvc` brings it"):
        planned()
    Path("nowhere/ridge").mkdir(parents=True)  # it is there, and of other methods
    with pytest.raises(MetaloomError, match=copy):
        planned()


def test_the_folder_that_is_replaced_is_none_to_start_from(prepared, monkeypatch):
    monkeypatch.setenv("METALOOM_SET", json.dumps(SET | {"train.start": "artifacts/models"}))
    with pytest.raises(MetaloomError, match="train.start is artifacts/models, which this run replaces: give a copy"):
        train_protonet()
