"""A frozen encoder: from pictures through the stage `embed` to graphs that take raw pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from encoders import Tiny, embedded, write_encoder
from projects import draw_shapes
from staged import give, packed_and_embedded

from metaloom.config import Settings, load_settings
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.shipped.verify import HEAD
from metaloom.kinds import Encoder, kind_from
from metaloom.kinds.encoded.encoder import _session
from metaloom.learner import Learner
from metaloom.stages import embed, prepare

SUPPORT, WAYS = [0, 1, 6, 7, 12, 13], np.arange(3).repeat(2)
SET = {"encoder.file": "tiny.onnx", "prepare.min_examples": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and an encoder."""
    root = tmp_path_factory.mktemp("encoded")
    draw_shapes(root / "data", domains=2, classes=3, examples=6)
    write_encoder(root / "tiny.onnx")
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path) -> Path:
    for each in ("data", "tiny.onnx"):
        (tmp_path / each).symlink_to(made / each)
    (tmp_path / "params.yaml").write_text((repo / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    give(monkeypatch, SET)
    return tmp_path


def learner_of(rows: Dataset, settings: Settings) -> Learner:
    network = settings.network.model_copy(update={"name": "linear"})
    small = settings.model_copy(update={"network": network})
    return Learner.create("protonet", small, rows.kind.fitted(rows.examples))


def test_without_an_encoder_the_data_set_is_the_examples_themselves(here, monkeypatch):
    give(monkeypatch, SET, encoder__file=None)
    rows, packed = packed_and_embedded(), Dataset.load("dataset")
    assert [path.name for path in (here / "embedded").iterdir()] == ["dataset.json"]
    assert rows.kind == packed.kind and rows.items.equals(packed.items) and rows.quality == packed.quality
    np.testing.assert_array_equal(rows.examples, packed.examples)


def test_the_rows_are_torch_s_and_the_pictures_of_the_encoder_s_size(here):
    rows, packed = packed_and_embedded(), Dataset.load("dataset")
    assert packed.examples.shape == (36, 32, 32, 3) and packed.examples.dtype == np.uint8
    assert rows.examples.shape == (36, 12) and rows.examples.dtype == np.float32
    expected = embedded(Tiny().eval(), torch.from_numpy(packed.examples))
    np.testing.assert_allclose(rows.examples, expected.numpy(), atol=1e-5)
    encoding = rows.kind.fitted(rows.examples)
    x = encoding(torch.from_numpy(rows.examples))
    torch.testing.assert_close(encoding(torch.from_numpy(packed.examples)), x)  # pictures are as good as rows
    torch.testing.assert_close(encoding(torch.from_numpy(packed.examples).unflatten(0, (6, 6))).flatten(0, 1), x)
    torch.testing.assert_close(x.square().mean(dim=1), torch.ones(36))
    saved = json.loads(json.dumps(encoding.saved()))
    assert kind_from(saved).encoding(saved) == encoding


@pytest.mark.slow
def test_the_graph_takes_raw_pictures(here):
    rows, packed = packed_and_embedded(), Dataset.load("dataset").examples
    settings = load_settings()
    learner = learner_of(rows, settings)
    task = learner.adapt(packed[SUPPORT], WAYS)
    of_rows = learner.adapt(rows.examples[SUPPORT], WAYS)  # a learner takes them, too
    np.testing.assert_allclose(of_rows.predict_proba(rows.examples), task.predict_proba(packed), atol=1e-6)
    raw = np.concatenate([packed, packed[:28]]).repeat(2, axis=1)[:, :, ::2]  # not square, so the graph resizes
    expected = task.predict_proba(learner.encoding.repacked(raw))
    model = to_onnx(task, novelty_of(task, packed[SUPPORT], WAYS), settings.export, {})
    session = onnxruntime.InferenceSession(model)
    for batch in (1, 2, 64):
        found = np.asarray(session.run(["probabilities"], {"examples": raw[:batch]})[0])
        np.testing.assert_allclose(found, expected[:batch], atol=1e-4, rtol=0)


@pytest.mark.slow  # five graphs are traced
def test_graphs_that_learn_hold_the_encoder_once(here):
    rows, packed = packed_and_embedded(), Dataset.load("dataset").examples
    settings = load_settings()
    learner = learner_of(rows, settings)
    graphs = learning_graphs(learner, settings.export, {})
    for name in ("adapt.onnx", "classify.onnx"):
        weights = [each.name for each in onnx.load_model_from_string(graphs[name]).graph.initializer]
        assert len([each for each in weights if each.endswith("layers.0.weight")]) == 1
    expected = learner.adapt(packed[SUPPORT], WAYS).predict_proba(packed)
    learned = {"support_x": packed[SUPPORT], "support_y": WAYS}
    adapted = onnxruntime.InferenceSession(graphs["adapt.onnx"]).run(["probabilities"], learned | {"query_x": packed})
    np.testing.assert_allclose(np.asarray(adapted[0])[:, :3], expected, atol=1e-4, rtol=0)
    head = onnxruntime.InferenceSession(graphs["learn.onnx"]).run(HEAD, learned)
    asked = {"examples": packed, **dict(zip(HEAD, head, strict=True))}
    again = onnxruntime.InferenceSession(graphs["classify.onnx"]).run(["probabilities"], asked)
    np.testing.assert_allclose(np.asarray(again[0])[:, :3], expected, atol=1e-4, rtol=0)


def test_a_killed_run_goes_on_where_it_was(here, monkeypatch):
    expected = packed_and_embedded().examples.copy()
    monkeypatch.setattr(embed, "BLOCK", 8)
    seen, batches = [], Encoder.batches

    def counted(encoder, packed):
        seen.append(len(packed))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return batches(encoder, packed)

    monkeypatch.setattr(Encoder, "batches", counted)
    with pytest.raises(KeyboardInterrupt):
        embed.main("dataset", "embedded")
    np.testing.assert_array_equal(Dataset.load("embedded").examples, expected)  # the old ones stay
    embed.main("dataset", "embedded")
    assert seen == [8, 8, 8, 8, 8, 4] and not embed.SCRATCH.exists()
    np.testing.assert_array_equal(Dataset.load("embedded").examples, expected)


class Odd(torch.nn.Module):
    """Encoders that cannot be used, each in its own way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.tiny = how, Tiny()

    def forward(self, pictures):
        z = self.tiny(pictures)
        if self.how == "maps":
            return pictures
        if self.how == "nan":
            return z * float("nan")
        if self.how == "of a batch":
            return z - z.mean(dim=0)
        return z


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("maps", r"gives float32 \(2, 3, 32, 32\) for two pictures, where \(2, embed\) of float32 is needed"),
        ("nan", "gives NaN: look at encoder.mean"),
        ("of a batch", "answers otherwise for a picture alone than beside another"),
    ],
)
def test_encoders_that_give_no_embeddings_are_refused(here, how, message):
    prepare.main("data", "dataset")
    (here / "tiny.onnx").unlink()
    write_encoder(here / "tiny.onnx", Odd(how))
    with pytest.raises(MetaloomError, match=f"encoder tiny {message}"):
        embed.main("dataset", "embedded")
    assert not (here / "embedded").exists()


def changed(here: Path, change) -> None:
    model = onnx.load(here / "tiny.onnx")
    change(model)
    (here / "tiny.onnx").unlink()
    onnx.save(model, here / "tiny.onnx")


def kept_in(name: str):
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
        tensor.ClearField("raw_data")

    return change


def of_five_axes(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=2)


def of_whole_numbers(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64


def with_a_custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain, model.graph.node[0].op_type = "ai.example", "Secret"
    model.opset_import.append(onnx.helper.make_opsetid("ai.example", 1))


def of_a_newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (kept_in("../weights.bin"), r"tiny.onnx keeps weights in ../weights.bin, outside its folder"),
        (kept_in("/etc/passwd"), r"tiny.onnx keeps weights in /etc/passwd, outside its folder"),
        (kept_in("weights.bin"), r"keeps weights in weights.bin, which is not there: put it beside tiny.onnx"),
        (with_a_custom_operator, r"has operators that are not ONNX's own: Secret \(ai.example\)"),
        (of_a_newer_opset, "has opset 21, newer than the bundle's: set export.opset to 21"),
        (of_whole_numbers, r"has the inputs image \(int64\): an encoder of pictures has one, of float32"),
        (of_five_axes, r"its input image is \(batch, 3, 32, 32, 2\), which is not understood"),
    ],
)
def test_files_that_cannot_be_used_are_refused(here, change, message):
    changed(here, change)
    with pytest.raises(MetaloomError, match=message):
        packed_and_embedded()
    assert not (here / "embedded").exists()


@pytest.mark.parametrize(
    ("given_too", "message"),
    [
        ({"encoder__file": "absent.onnx"}, "absent.onnx not found: encoder.file names an ONNX file, or is null"),
        ({"encoder__file": "params.yaml"}, "params.yaml is no ONNX file"),
        ({"encoder__layout": "NHWC"}, r"\(batch, 3, 32, 32\), which as NHWC does not take squares of 3 pixels"),
        ({"encoder__size": 64}, r"which as NCHW does not take squares of 64 pixels"),
        ({"encoder__mean": [0.5, 0.5]}, "encoder.mean has 2 numbers: give one for each of the 3 channels"),
        ({"encoder__output": "z"}, r"has the outputs out .*: name the one that is \(batch, embed\) in encoder.output"),
        ({"kind": "vectors"}, "encoder.file is tiny.onnx, and kind is vectors: encoders see pictures"),
        ({"pictures__mirror": True}, "pictures.mirror is True, and an encoder sees each picture once, as it is"),
    ],
)
def test_settings_that_do_not_fit_the_encoder_are_refused(here, monkeypatch, given_too, message):
    give(monkeypatch, SET, **given_too)
    with pytest.raises(MetaloomError, match=message):
        packed_and_embedded()
    assert not (here / "embedded").exists()


def test_weights_beside_the_file_and_channels_last_are_taken(here, monkeypatch):
    (here / "tiny.onnx").unlink()
    module = write_encoder(here / "one.onnx", Tiny(last=True), opset=13)  # an older opset, too
    outside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(here / "one.onnx"), here / "tiny.onnx", **outside)
    rows, packed = packed_and_embedded(), Dataset.load("dataset")
    expected = embedded(module, torch.from_numpy(packed.examples))
    np.testing.assert_allclose(rows.examples, expected.numpy(), atol=1e-5)
    made = onnx.load(here / "embedded/encoder.onnx", load_external_data=False)
    assert (made.opset_import[0].version, made.ir_version) == (18, 9)
    assert not any(each.external_data for each in made.graph.initializer)


def test_another_encoder_than_the_model_s_is_refused(here):
    rows = packed_and_embedded()
    encoding = rows.kind.fitted(rows.examples)
    picture = torch.from_numpy(Dataset.load("dataset").examples[:1])
    _session.cache_clear()  # a process looks at the file once
    (here / "embedded/encoder.onnx").write_bytes(b"")
    with pytest.raises(MetaloomError, match="encoder.onnx is another encoder than the model was trained on"):
        encoding(picture)
    (here / "embedded/encoder.onnx").unlink()
    with pytest.raises(MetaloomError, match="the encoder tiny, not found"):
        encoding(picture)
