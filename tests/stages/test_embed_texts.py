"""Texts behind a frozen encoder: the stage `embed`, and graphs that take ids of tokens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from staged import give, packed_and_embedded
from text_encoders import SET, VOCABULARY, ids_of, rows_of, tried_here, write_text_encoder, write_tokenizer
from texts import draw_texts

from metaloom.config import load_settings
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.shipped.verify import HEAD
from metaloom.kinds import kind_from
from metaloom.kinds.encoded import trial
from metaloom.kinds.text.show import text_of
from metaloom.learner import Learner

SUPPORT, WAYS = [0, 1, 8, 9, 16, 17], np.arange(3).repeat(2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, an encoder and its tokenizer."""
    root = tmp_path_factory.mktemp("texts")
    draw_texts(root / "data", domains=2)
    write_text_encoder(root / "tiny.onnx")
    write_tokenizer(root / "tokenizer.json")
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path) -> Path:
    for name in ("data", "tiny.onnx", "tokenizer.json"):
        (tmp_path / name).symlink_to(made / name)
    (tmp_path / "params.yaml").write_text((repo / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trial, "tried", tried_here)
    give(monkeypatch, SET)
    return tmp_path


def texts_of(packed: Dataset) -> list[str]:
    return [text_of(each) for each in packed.examples]


def test_the_rows_are_the_means_over_each_text_s_own_tokens(here):
    rows, packed = packed_and_embedded(), Dataset.load("dataset")
    texts = texts_of(packed)
    assert any(text.startswith("I want") for text in texts)  # capitals are the tokenizer's affair
    assert rows.examples.shape == (96, 12) and rows.examples.dtype == np.float32
    np.testing.assert_allclose(rows.examples, rows_of(texts), atol=1e-5)
    encoding = rows.kind.fitted(rows.examples)
    x = encoding(torch.from_numpy(rows.examples))
    torch.testing.assert_close(encoding(torch.from_numpy(packed.examples)), x)  # texts are as good as rows
    torch.testing.assert_close(encoding(torch.from_numpy(packed.examples).unflatten(0, (8, 12))).flatten(0, 1), x)
    torch.testing.assert_close(x.square().mean(dim=1), torch.ones(96))
    saved = json.loads(json.dumps(encoding.saved()))
    assert kind_from(saved).encoding(saved) == encoding
    assert encoding.unpacked(packed.examples[:1]).tolist() == [ids_of(texts[0])]
    assert json.loads((here / "embedded/read.json").read_text()).keys() == {"tiny.onnx", "tokenizer.json"}


@pytest.mark.parametrize(
    ("how", "settings", "expected"),
    [
        ({"types": False}, {}, lambda hidden: hidden.mean(axis=0)),
        ({"pooled": True}, {}, lambda hidden: hidden[0]),
        ({}, {"encoder__pooling": "first"}, lambda hidden: hidden[0]),
    ],
)
def test_encoders_without_types_or_of_one_row_are_taken(here, monkeypatch, how, settings, expected):
    (here / "tiny.onnx").unlink()
    write_text_encoder(here / "tiny.onnx", **how)
    give(monkeypatch, SET, **settings)
    rows, texts = packed_and_embedded(), texts_of(Dataset.load("dataset"))
    session = onnxruntime.InferenceSession(here / "tiny.onnx")
    for text, row in list(zip(texts, rows.examples, strict=True))[:5]:
        ids = np.array([ids_of(text)])
        asked = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
        (output,) = session.run(None, {each.name: asked[each.name] for each in session.get_inputs()})
        hidden = np.asarray(output)[0]
        np.testing.assert_allclose(row, hidden if "pooled" in how else expected(hidden), atol=1e-5)


@pytest.mark.slow  # five graphs are traced
def test_the_graphs_take_ids_and_hold_the_encoder_once(here):
    rows, packed = packed_and_embedded(), Dataset.load("dataset").examples
    settings = load_settings()
    network = settings.network.model_copy(update={"name": "identity"})
    learner = Learner.create("protonet", settings.model_copy(update={"network": network}), rows.kind.fitted(packed))
    task = learner.adapt(packed[SUPPORT], WAYS)
    expected = task.predict_proba(packed)
    np.testing.assert_allclose(task.predict_proba(rows.examples), expected, atol=1e-6)
    ids = learner.encoding.unpacked(packed)
    session = onnxruntime.InferenceSession(to_onnx(task, novelty_of(task, packed[SUPPORT], WAYS), settings.export, {}))
    for batch in (1, 2, 64):
        found = np.asarray(session.run(["probabilities"], {"examples": ids[:batch]})[0])
        np.testing.assert_allclose(found, expected[:batch], atol=1e-4, rtol=0)
    graphs = learning_graphs(learner, settings.export, {})
    weights = [each.name for each in onnx.load_model_from_string(graphs["adapt.onnx"]).graph.initializer]
    assert len([name for name in weights if name.endswith("table")]) == 1
    learned = {"support_x": ids[SUPPORT], "support_y": WAYS}
    adapt = onnxruntime.InferenceSession(graphs["adapt.onnx"])
    found = np.asarray(adapt.run(["probabilities"], learned | {"query_x": ids[:, :30]})[0])
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-4, rtol=0)
    head = onnxruntime.InferenceSession(graphs["learn.onnx"]).run(HEAD, learned)
    asked = {"examples": ids, **dict(zip(HEAD, head, strict=True))}
    again = np.asarray(onnxruntime.InferenceSession(graphs["classify.onnx"]).run(["probabilities"], asked)[0])
    np.testing.assert_allclose(again[:, :3], expected, atol=1e-4, rtol=0)


def of_floats(model: onnx.ModelProto) -> None:
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def with_positions(model: onnx.ModelProto) -> None:
    model.graph.input[2].name = "position_ids"


def with_two_outputs(model: onnx.ModelProto) -> None:
    other = model.graph.output.add()
    other.CopyFrom(model.graph.output[0])
    other.name = "both"


def that_mixes(model: onnx.ModelProto) -> None:
    """The mean over the batch's places too, as one that quantises what goes through it does."""
    node = next(each for each in model.graph.node if each.output[0] == "mean")
    node.input[1] = "most"
    model.graph.node.insert(9, onnx.helper.make_node("ReduceMax", ["count"], ["most"], keepdims=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_floats, r"attention_mask \(batch, tokens\) float, .*: an encoder of texts has ids, a mask and perhaps"),
        (with_positions, r"has the inputs .* position_ids .*: an encoder of texts has ids, a mask and perhaps"),
        (with_two_outputs, r"name the one that is \(batch, embed\) or \(batch, tokens, embed\) in encoder.output"),
        (that_mixes, "encoder tiny answers otherwise for a text alone than beside another"),
    ],
)
def test_encoders_that_take_no_texts_are_refused(here, change, message):
    model = onnx.load(here / "tiny.onnx")
    change(model)
    (here / "tiny.onnx").unlink()
    onnx.save(model, here / "tiny.onnx")
    with pytest.raises(MetaloomError, match=message):
        packed_and_embedded()
    assert not (here / "embedded").exists()


def test_a_tokenizer_that_is_not_the_encoder_s_is_refused(here, monkeypatch):
    (here / "tiny.onnx").unlink()
    write_text_encoder(here / "tiny.onnx", rows=20)
    most = len(VOCABULARY) - 1
    with pytest.raises(MetaloomError, match=rf"tokenizer.json is not the tokenizer of tiny: it has ids up to {most}"):
        packed_and_embedded()
    (here / "tiny.onnx").unlink()
    write_text_encoder(here / "tiny.onnx")
    give(monkeypatch, SET, encoder__tokens=64)
    with pytest.raises(MetaloomError, match=r"encoder tiny does not take texts of 64 tokens: set encoder.tokens"):
        packed_and_embedded()
    assert not (here / "embedded").exists()


def test_a_tokenizer_that_cannot_be_had_is_refused_before_anything(here, monkeypatch):
    give(monkeypatch, SET, encoder__tokenizer="absent.json")
    with pytest.raises(MetaloomError, match=r"absent.json not found: encoder.tokenizer names the tokenizer.json of"):
        packed_and_embedded()
    give(monkeypatch, SET)
    (here / "tokenizer.json").unlink()
    with pytest.raises(MetaloomError, match=r"tiny.onnx has no tokenizer beside it: put its tokenizer.json there as"):
        packed_and_embedded()
    (here / "tiny.tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(MetaloomError, match=r"tiny.tokenizer.json is no tokenizer.json of the package tokenizers"):
        packed_and_embedded()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MetaloomError, match=r"need the package tokenizers: `pip install 'metaloom\[tokenizers\]'`"):
        packed_and_embedded()
    assert not (here / "dataset").exists()


def test_pictures_do_not_go_into_an_encoder_of_texts(here, monkeypatch):
    give(monkeypatch, SET, kind="pictures")
    with pytest.raises(MetaloomError, match=r"has the inputs input_ids \(int64\), .*: an encoder of pictures has one"):
        packed_and_embedded()
    give(monkeypatch, SET, kind="vectors")
    with pytest.raises(MetaloomError, match="kind is vectors: encoders see pictures and texts; set it to null"):
        packed_and_embedded()


def test_long_and_odd_texts_have_rows(here, monkeypatch):
    (here / "tokenizer.json").unlink()
    write_tokenizer(here / "tokenizer.json", longest=9)
    give(monkeypatch, SET, encoder__tokens=None)  # as the tokenizer says
    rows = packed_and_embedded()
    encoding = rows.kind.fitted(rows.examples)
    texts = ["open the door " * 9, "日本語", "?", "OPEN"]
    found = rows.kind.encoder(encoding.taken(texts))
    np.testing.assert_allclose(found, rows_of(texts, longest=9), atol=1e-5)
