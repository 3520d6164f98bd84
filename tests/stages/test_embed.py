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

from metaloom.config import Settings, load_settings
from metaloom.data.packed import Dataset
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.kinds import Encoder
from metaloom.learner import Learner
from metaloom.stages import embed, prepare

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
    given(monkeypatch)
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, **more: object) -> None:
    monkeypatch.setenv("METALOOM_SET", json.dumps(SET | {key.replace("__", "."): each for key, each in more.items()}))


def stages() -> Dataset:
    prepare.main("data", "dataset")
    embed.main("dataset", "embedded")
    return Dataset.load("embedded")


def learner_of(rows: Dataset, settings: Settings) -> Learner:
    network = settings.network.model_copy(update={"name": "linear"})
    small = settings.model_copy(update={"network": network})
    return Learner.create("protonet", small, rows.kind.fitted(rows.examples))


def test_without_an_encoder_the_data_set_is_the_examples_themselves(here, monkeypatch):
    given(monkeypatch, encoder__file=None)
    rows, packed = stages(), Dataset.load("dataset")
    assert [path.name for path in (here / "embedded").iterdir()] == ["dataset.json"]
    assert rows.kind == packed.kind and rows.items.equals(packed.items) and rows.quality == packed.quality
    np.testing.assert_array_equal(rows.examples, packed.examples)


def test_the_rows_are_torch_s_and_the_pictures_of_the_encoder_s_size(here):
    rows, packed = stages(), Dataset.load("dataset")
    assert packed.examples.shape == (36, 32, 32, 3) and packed.examples.dtype == np.uint8
    assert rows.examples.shape == (36, 12) and rows.examples.dtype == np.float32
    expected = embedded(Tiny().eval(), torch.from_numpy(packed.examples))
    np.testing.assert_allclose(rows.examples, expected.numpy(), atol=1e-5)
    encoding = rows.kind.fitted(rows.examples)
    x = encoding(torch.from_numpy(rows.examples))
    torch.testing.assert_close(encoding(torch.from_numpy(packed.examples)), x)  # pictures are as good as rows
    torch.testing.assert_close(encoding(torch.from_numpy(packed.examples).unflatten(0, (6, 6))).flatten(0, 1), x)
    assert x.mean().abs() < 1e-5 and abs(x.square().mean() - 1) < 1e-4
    saved = json.loads(json.dumps(encoding.saved()))
    from metaloom.kinds import kind_from

    assert kind_from(saved).encoding(saved) == encoding


def test_graphs_take_raw_pictures_and_hold_the_encoder_once(here):
    rows, packed = stages(), Dataset.load("dataset").examples
    settings = load_settings()
    learner, ways = learner_of(rows, settings), np.arange(3).repeat(2)
    support, asked = packed[[0, 1, 6, 7, 12, 13]], np.concatenate([packed, packed[:28]])
    task = learner.adapt(support, ways)
    np.testing.assert_allclose(  # a learner takes rows, too
        learner.adapt(rows.examples[[0, 1, 6, 7, 12, 13]], ways).predict_proba(rows.examples),
        task.predict_proba(packed),
        atol=1e-6,
    )
    raw = asked.repeat(2, axis=1)[:, :, ::2]  # not square, so the graph resizes
    z = learner.encoding.repacked(raw)
    expected = task.predict_proba(z)
    model = to_onnx(task, novelty_of(task, support, ways), settings.export, {})
    session = onnxruntime.InferenceSession(model)
    for batch in (1, 2, 64):
        found = np.asarray(session.run(["probabilities"], {"examples": raw[:batch]})[0])
        np.testing.assert_allclose(found, expected[:batch], atol=1e-4, rtol=0)
    graphs = learning_graphs(learner, settings.export, {})
    sizes = {name: len(data) for name, data in graphs.items()}
    weights = [each.name for each in onnx.load_model_from_string(graphs["adapt.onnx"]).graph.initializer]
    assert len([name for name in weights if name.endswith("layers.0.weight")]) == 1, sizes
    inputs = {"support_x": support, "support_y": ways, "query_x": raw}
    adapted = np.asarray(onnxruntime.InferenceSession(graphs["adapt.onnx"]).run(["probabilities"], inputs)[0])
    np.testing.assert_allclose(adapted[:, :3], expected, atol=1e-4, rtol=0)


def test_a_killed_run_goes_on_where_it_was(here, monkeypatch):
    expected = stages().examples.copy()
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
