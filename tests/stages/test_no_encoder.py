"""`contenders: [no_encoder]`: what is learned from the texts themselves stands for choice beside the encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from text_encoders import SET, tried_here, write_text_encoder, write_tokenizer
from texts import draw_texts

from metaloom.baselines import Features
from metaloom.config import load_settings
from metaloom.data.packed import Dataset, seen_as
from metaloom.errors import MetaloomError
from metaloom.kinds.encoded import trial
from metaloom.kinds.text.encode import lowered
from metaloom.learner import Learner
from metaloom.report.sections.training import _contest
from metaloom.stages import embed, evaluate, plan, prepare, pretrain, split, train
from metaloom.tasks import load_episodes

FOLDERS, PLAN = ("embedded", "splits"), "plan.json"
TINY = {"protonet.steps": 5, "pretrain.steps": 5, "episodes.validation": 20, "text.features": 200}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """Everything up to protonet's training; the texts' own words tell their classes, and the encoder knows few."""
    root = tmp_path_factory.mktemp("no_encoder")
    given = SET | TINY | {"network.name": "identity", "contenders": ["no_encoder"]}
    draw_texts(root / "data")
    write_text_encoder(root / "tiny.onnx")
    write_tokenizer(root / "tokenizer.json")
    for name in ("params.yaml", "budget.yaml"):
        (root / name).write_text((repo / name).read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(trial, "tried", tried_here)
        for name, value in {"METALOOM_SET": json.dumps(given), "DVC_NO_ANALYTICS": "1"}.items():
            patch.setenv(name, value)
        prepare.main("data", "dataset")
        embed.main("dataset", "embedded")
        plan.main("embedded", "budget.yaml", PLAN, "splits.yaml")
        split.main("dataset", PLAN, "splits.yaml", "splits")
        train.main("protonet", *FOLDERS, PLAN, "protonet", "protonet.json")
        pretrain.main(*FOLDERS, PLAN, "pretrained", "pretrained.json")
    return root


@pytest.mark.slow
def test_validation_chooses_between_the_texts_themselves_and_the_encoder(made: Path):
    metrics = json.loads((made / "protonet/metrics.json").read_text())
    assert metrics["encoder"] == "tiny (12 numbers)"
    assert list(metrics["networks"]) == ["identity", "no_encoder"]
    lead, scores = metrics["lead"], metrics["networks"]
    assert scores[lead["of"]] == max(scores.values()) and {lead["of"], lead["over"]} == set(scores)
    assert lead["difference"] == pytest.approx(scores[lead["of"]] - scores[lead["over"]], abs=1e-3)
    learner = Learner.load(made / "protonet")
    chosen = {"no_encoder": "linear", "identity": "identity"}[lead["of"]]
    assert learner.config["network"]["name"] == chosen


@pytest.mark.slow
def test_each_learner_gets_the_examples_that_it_takes(made: Path, monkeypatch: pytest.MonkeyPatch):
    """A learner of the texts answers as it does for their capitals in lower case, and baselines get the rows."""
    monkeypatch.chdir(made)
    rows, packed = Dataset.load("embedded"), Dataset.load("dataset")
    pretrained = Learner.load("pretrained")
    settings = load_settings(plan=PLAN)
    network = settings.network.model_copy(update={"name": "linear"})
    own = settings.model_copy(update={"network": network})
    learner = Learner.create("protonet", own, packed.kind.fitted(packed.examples))
    assert learner.encoding.shape == (200,) and pretrained.encoding.shape == (12,)
    np.testing.assert_array_equal(seen_as("embedded", learner.encoding.takes), packed.examples)
    np.testing.assert_array_equal(seen_as("embedded", pretrained.encoding.takes), rows.examples)
    texts = torch.from_numpy(packed.examples)
    torch.testing.assert_close(learner.encoding(texts), learner.encoding(lowered(texts)))
    tables = load_episodes("splits", "validation", [])
    examples = torch.from_numpy(rows.examples)
    features = Features.of(examples, tables.values(), learner, pretrained, texts)
    assert features.get("flat", np.arange(3)).shape == (3, 12)
    expected = learner.embed(texts, features.rows[:3])
    np.testing.assert_allclose(features.get("embedding", np.arange(3)), expected, atol=1e-5)
    raw, device = examples, examples.clone()
    assert evaluate._seen(pretrained, "embedded", raw, device) is device
    torch.testing.assert_close(evaluate._seen(learner, "embedded", raw, device), texts)


def test_no_encoder_is_refused_where_there_is_none(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("params.yaml", "budget.yaml"):
        (tmp_path / name).write_text((repo / name).read_text())
    draw_texts(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    given = SET | {"encoder.file": None, "network.name": "linear", "contenders": ["no_encoder"]}
    monkeypatch.setenv("METALOOM_SET", json.dumps(given))
    prepare.main("data", "dataset")
    with pytest.raises(
        MetaloomError, match="contenders has no_encoder, which does without the encoder that sees texts"
    ):
        plan.main("dataset", "budget.yaml", PLAN, "splits.yaml")


def test_the_report_says_by_how_much():
    metrics = {
        "networks": {"identity": 0.8, "no_encoder": 0.9, "whiten": 0.85},
        "lead": {"of": "no_encoder", "over": "whiten", "difference": 0.05, "ci95": 0.02},
    }
    assert _contest(metrics) == [
        "validation chose no_encoder, +5.0 ± 2.0 points over whiten on the same episodes "
        "(no_encoder 90.0%, whiten 85.0%, identity 80.0%)"
    ]
    assert _contest({}) == []
