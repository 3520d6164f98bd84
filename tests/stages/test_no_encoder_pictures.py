"""`contenders: [no_encoder]` of pictures: those of the project's own size stand for choice beside an encoder's rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from encoders import write_encoder
from projects import TINY, draw_shapes
from text_encoders import tried_here

from metaloom.data.packed import Dataset, seen_as, without_encoder
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds.encoded import trial
from metaloom.learner import Learner
from metaloom.stages import embed, evaluate, export, plan, prepare, pretrain, split, train, tune

PLAN = "plan.json"
FEW = {
    key: value for key, value in TINY.items() if key.startswith(("baselines.", "studies."))
}  # of what is no matter here
SET = FEW | {
    "encoder.file": "tiny.onnx",
    "network.name": "identity",
    "contenders": ["no_encoder"],
    "methods": ["protonet"],
    "prepare.min_examples": 4,
    "network.width": 16,
    "protonet.steps": 40,
    "pretrain.steps": 5,
    "episodes.settings": ["3w1s", "3w2s"],
    "episodes.validation": 40,
    "episodes.test": 40,
    "export.page": False,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """Everything up to protonet's training, behind an encoder that gives nearly nothing of a picture."""
    root = tmp_path_factory.mktemp("no_encoder_pictures")
    draw_shapes(root / "data")
    write_encoder(root / "tiny.onnx", size=40)
    for name in ("params.yaml", "budget.yaml"):
        (root / name).write_text((repo / name).read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(trial, "tried", tried_here)
        for name, value in {"METALOOM_SET": json.dumps(SET), "DVC_NO_ANALYTICS": "1"}.items():
            patch.setenv(name, value)
        prepare.main("data", "dataset")
        embed.main("dataset", "embedded")
        plan.main("embedded", "budget.yaml", PLAN, "splits.yaml")
        split.main("dataset", PLAN, "splits.yaml", "splits")
        train.main("protonet", "embedded", "splits", PLAN, "models/protonet", "protonet.json")
    return root


def test_pictures_are_packed_for_the_encoder_and_as_the_settings_say(
    made: Path, monkeypatch: pytest.MonkeyPatch, repo: Path, tmp_path: Path
):
    """The second form is to the last bit the one of a project without an encoder."""
    monkeypatch.chdir(made)
    assert Dataset.load("dataset").examples.shape[1:] == (40, 40, 3)
    own = Dataset.load(without_encoder("embedded"))
    monkeypatch.setenv("METALOOM_SET", json.dumps({"prepare.min_examples": 4}))
    prepare.main("data", str(tmp_path / "plain"))
    plain = Dataset.load(tmp_path / "plain")
    assert own.kind == plain.kind and own.items.equals(plain.items)
    np.testing.assert_array_equal(own.examples, plain.examples)
    assert not (tmp_path / "plain/own").exists() and without_encoder(tmp_path / "plain") == tmp_path / "plain"


@pytest.mark.slow
def test_validation_keeps_the_network_that_sees_the_pictures_themselves(made: Path):
    """The encoder has random weights, and conv4 learns what tells the shapes apart."""
    metrics = json.loads((made / "models/protonet/metrics.json").read_text())
    assert list(metrics["networks"]) == ["identity", "no_encoder"]
    assert metrics["lead"]["of"] == "no_encoder" and metrics["lead"]["difference"] > 0
    assert Learner.load(made / "models/protonet").config["network"]["name"] == "conv4"


@pytest.mark.slow
def test_what_was_kept_is_measured_and_handed_off(made: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(made)
    monkeypatch.setenv("METALOOM_SET", json.dumps(SET))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    learner = Learner.load("models/protonet")
    own = Dataset.load(without_encoder("dataset")).examples
    for folder in ("dataset", "embedded"):
        np.testing.assert_array_equal(seen_as(folder, learner.encoding.takes), own)
    pretrain.main("embedded", "splits", PLAN, "pretrained", "pretrained.json")
    tune.main("embedded", "splits", PLAN, "models", "pretrained", "choices.json")
    evaluate.main("embedded", "splits", PLAN, "models", "pretrained", "choices.json", "evaluation", "metrics.json")
    export.main("dataset", "splits", PLAN, "models", "evaluation", "bundle")
    assert verify(made / "bundle").problems == []
    spec = json.loads((made / "bundle/metadata.json").read_text())["input"]
    assert "encoder" not in spec and (spec["image_size"], spec["channels"]) == own.shape[2:]
