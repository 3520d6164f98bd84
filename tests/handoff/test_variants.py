"""fp16 and int8 forms of a bundle's graph, and what they are said to cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from metaloom.config import Settings
from metaloom.data.support import Support
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.solve import solve
from metaloom.handoff.bundle.contents import Maker
from metaloom.handoff.bundle.write import write_bundle
from metaloom.handoff.graphs import costs, variants
from metaloom.handoff.shipped.verify import verify
from metaloom.learner import Learner
from metaloom.tasks import EpisodeTable

pytestmark = pytest.mark.slow

ABOUT = {"metaloom.method": "protonet"}


def with_export(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"export": settings.export.model_copy(update=changes)})


@pytest.fixture(scope="module")
def wide(tiny_settings: Settings) -> Settings:
    """A network as large as real ones, in which the weights are most of the file."""
    network = tiny_settings.network.model_copy(update={"width": 64})
    both = with_export(tiny_settings, variants=["fp16", "int8"], max_loss=1.0)
    return both.model_copy(update={"network": network})


@pytest.fixture(scope="module")
def asked(pictures: np.ndarray) -> costs.Trial:
    """Calibration on half of the domains, episodes of three classes from the others."""
    rng = np.random.default_rng(0)
    rows = np.stack(
        [20 * 8 + (rng.choice(20, 3, replace=False) * 8)[:, None] + rng.permutation(8)[:5] for _ in range(8)]
    )
    return costs.Trial(pictures, pictures[:160:10], {"3w2s": EpisodeTable(rows[..., :2], rows[..., 2:])})


def make(learner: Learner, settings: Settings, asked: costs.Trial, model: Path, out: Path, pictures: np.ndarray):
    support, labels = pictures[160:192:2], np.arange(4).repeat(4)
    maker = Maker.open(model, settings)
    (solved,) = solve(maker, {"some": Support(support, labels, list("abcd"), [])})
    contents = replace(solved.contents(maker), examples=pictures[161:192:4], asked=asked)
    write_bundle(out, contents, settings.export)


@pytest.mark.parametrize(
    ("name", "episodes"),
    [pytest.param("protonet", 8, marks=pytest.mark.slow), pytest.param("maml", 2, marks=pytest.mark.sweep)],
)
def test_a_bundle_with_variants(
    name: str,
    episodes: int,
    make_learner: Callable,
    save_model: Callable,
    wide: Settings,
    asked,
    pictures: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    steps = wide.maml.model_copy(update={"inner_steps": 2})  # so that each task has a network of its own
    settings = wide.model_copy(update={"maml": steps})
    monkeypatch.setattr(costs, "EPISODES_ADAPTED", 2)  # graphs of such tasks, each in every variant
    learner = make_learner(name, settings)
    out = tmp_path / "bundle"
    make(learner, settings, asked, save_model(learner, tmp_path / name), out, pictures)
    assert not verify(out).problems
    said = json.loads((out / "metadata.json").read_text())["variants"]
    sizes = {kind: (out / f"model.{kind}.onnx").stat().st_size for kind in ("fp16", "int8")}
    whole = (out / "model.onnx").stat().st_size
    assert whole / sizes["fp16"] > 1.6 and whole / sizes["int8"] > 3
    for kind, size in sizes.items():
        cost = said[f"model.{kind}.onnx"]
        assert cost["bytes"] == size and cost["smaller"] == pytest.approx(whole / size)
        assert cost["episodes"] == episodes and -0.2 < cost["difference"] < 0.2 and cost["milliseconds"] > 0
    card = (out / "MODEL_CARD.md").read_text()
    assert ("points, no interval, 2 episodes" in card) == (episodes == 2)
    assert "Smaller forms of model.onnx" in card and f"({whole / sizes['int8']:.1f} times smaller)" in card


@pytest.mark.parametrize("kind, stored", [("fp16", onnx.TensorProto.FLOAT16), ("int8", onnx.TensorProto.INT8)])
def test_weights_are_stored_as_said_and_answers_are_near(
    kind: str, stored: int, make_learner: Callable, wide: Settings, asked, pictures: np.ndarray
):
    from metaloom.handoff.graphs.novelty import novelty_of
    from metaloom.handoff.graphs.task import to_onnx

    support, labels = pictures[160:192:2], np.arange(4).repeat(4)
    task = make_learner("protonet", wide).adapt(support, labels)
    model = to_onnx(task, novelty_of(task, support, labels), wide.export, ABOUT)
    data = variants.variant(kind, model, asked.calibration, wide.export, ABOUT)
    graph = onnx.load_model_from_string(data)
    kernels = [tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4]
    assert len(kernels) == 4 and all(tensor.data_type == stored for tensor in kernels)
    assert {each.domain for each in graph.opset_import} == {""}
    assert {each.key: each.value for each in graph.metadata_props} == ABOUT
    found, expected = (
        np.asarray(onnxruntime.InferenceSession(each).run(None, {"examples": pictures[161:192:2]})[0])
        for each in (data, model)
    )
    assert 0 < np.abs(found - expected).max() < (0.02 if kind == "fp16" else 0.3)


@pytest.mark.parametrize(
    ("differences", "said"),
    [([-0.02, -0.04], "no interval"), ([-0.02, -0.04, -0.02, -0.04, -0.03], r"± 1\.2")],  # scipy's t.interval
)
def test_one_that_loses_too_much_is_refused(
    differences: list[float],
    said: str,
    make_learner: Callable,
    save_model: Callable,
    wide: Settings,
    asked,
    pictures: np.ndarray,
    tmp_path: Path,
    monkeypatch,
):
    monkeypatch.setattr(costs, "_differences", lambda *_: iter([np.array(differences)]))
    learner = make_learner("protonet", wide)
    model = save_model(learner, tmp_path / "protonet")
    settings = with_export(wide, variants=["int8"], max_loss=0.01)
    with pytest.raises(MetaloomError, match=rf"int8 loses 3.0 points of .* \({said}\) .* allows \(1\): leave it out"):
        make(learner, settings, asked, model, tmp_path / "bundle", pictures)
    assert not (tmp_path / "bundle").exists()


def test_a_variant_is_refused_where_no_episode_fits_the_graphs_that_learn(
    make_learner: Callable, tiny_settings: Settings, asked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(costs, "variant", lambda precision, model, *_: model)
    settings = with_export(tiny_settings, variants=["int8"], max_ways=2)
    with pytest.raises(MetaloomError, match=r"at most export.max_ways \(2\) ways to measure int8 on: add one to"):
        costs.variants(b"", make_learner("protonet", settings), asked, settings.export, {})


@pytest.mark.parametrize(("name", "episodes"), [("protonet", 8), ("maml", 2)])
def test_the_difference_is_paired_by_episode(
    name: str, episodes: int, make_learner: Callable, tiny_settings: Settings, asked, monkeypatch: pytest.MonkeyPatch
):
    """A variant that is the model itself loses nothing in any episode; one that is another network does."""
    two_steps = tiny_settings.maml.model_copy(update={"inner_steps": 2})  # each task has a network of its own
    settings = tiny_settings.model_copy(update={"maml": two_steps})
    monkeypatch.setattr(costs, "EPISODES_ADAPTED", 2)
    learner = make_learner(name, settings)
    monkeypatch.setattr(costs, "variant", lambda kind, model, *_: model)
    (same,) = costs._differences("int8", learner, asked, settings.export)
    assert same.shape == (episodes,) and not same.any()
    monkeypatch.setattr(costs, "variant", lambda kind, model, *_: other_weights(model))
    (other,) = costs._differences("int8", learner, asked, settings.export)
    assert other.any()


def other_weights(model: bytes) -> bytes:
    graph = onnx.load_model_from_string(model)
    for tensor in graph.graph.initializer:
        if tensor.name.endswith(".conv"):
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
    return graph.SerializeToString()
