"""adapt.onnx, learn.onnx and classify.onnx against torch, which has no part in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from metaloom.config import Settings
from metaloom.handoff.graphs import onnxfile
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.shipped.verify import HEAD
from metaloom.kinds.pictures.resize import resize
from metaloom.learner import Learner
from metaloom.methods import METHOD_CLASSES

pytestmark = pytest.mark.slow

ABOUT = {"metaloom.method": "a method"}
STEPS = {"maml": {"inner_steps": 2}, "reptile": {"inner_steps": 2}}  # the network moves in the second one
MANY_STEPS = 2e-4
SMALL_RATE = 0.05  # at 0.4, rounding that decides which of two pixels is the maximum moves an answer by 1e-3
MakeLearner = Callable[..., Learner]


def with_method(settings: Settings, name: str, **changes: object) -> Settings:
    return settings.model_copy(update={name: settings.method(name).model_copy(update=changes)})


def sessions_of(learner: Learner, settings: Settings) -> dict[str, onnxruntime.InferenceSession]:
    graphs = learning_graphs(learner, settings.export, ABOUT)
    return {name: onnxruntime.InferenceSession(data) for name, data in graphs.items()}


def adapted(sessions: dict, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> list[np.ndarray]:
    inputs = {"support_x": support, "support_y": labels.astype(np.int64), "query_x": query}
    return [np.asarray(each) for each in sessions["adapt.onnx"].run(None, inputs)]


def classified(sessions: dict, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> list[np.ndarray]:
    head = sessions["learn.onnx"].run(HEAD, {"support_x": support, "support_y": labels.astype(np.int64)})
    inputs = {"examples": query, **dict(zip(HEAD, head, strict=True))}
    return [np.asarray(each) for each in sessions["classify.onnx"].run(None, inputs)]


def an_episode(rng: np.random.Generator, pictures: np.ndarray, most_ways: int) -> tuple[np.ndarray, ...]:
    """Any number of ways and of examples, not the same for every way; in no order."""
    ways = int(rng.integers(2, most_ways + 1))
    labels = np.concatenate([np.arange(ways), rng.integers(0, ways, rng.integers(0, 12))])
    rows = rng.permutation(len(pictures))
    return pictures[rows[: len(labels)]], rng.permutation(labels), pictures[rows[-int(rng.integers(1, 9)) :]]


QUICK = ("protonet",)  # a head in closed form; tracing inner steps through convolutions takes half a minute
SLOW = ("ridge",)
OTHERS = [name for name in METHOD_CLASSES if name not in QUICK + SLOW]
ASKED = [
    *((name, 4) for name in QUICK),
    *(pytest.param(name, 4, marks=pytest.mark.slow) for name in SLOW),
    *(pytest.param(name, 4, marks=pytest.mark.sweep) for name in OTHERS),
]
MANY = [pytest.param(name, 100, marks=pytest.mark.sweep) for name in METHOD_CLASSES]


@pytest.mark.parametrize(("name", "episodes"), [*ASKED, *MANY])
def test_episodes_of_any_shape_as_torch_answers_them(
    name: str, episodes: int, make_learner: MakeLearner, pictures: np.ndarray, tiny_settings: Settings
):
    settings = with_method(tiny_settings, name, **STEPS.get(name, {}))
    learner = make_learner(name, settings)
    sessions = sessions_of(learner, settings)
    assert set(sessions) == ({"adapt.onnx", "learn.onnx", "classify.onnx"} if learner.method.frozen else {"adapt.onnx"})
    rng, tolerance = np.random.default_rng(0), 1e-5 if learner.method.frozen else MANY_STEPS
    for _ in range(episodes):
        support, labels, query = an_episode(rng, pictures, 7)
        expected = learner.adapt(support, labels).predict_proba(query)
        asked = [adapted] + [classified] * learner.method.frozen
        for answer in (ask(sessions, support, labels, query) for ask in asked):
            probabilities, novelty = answer
            np.testing.assert_allclose(probabilities[:, : expected.shape[1]], expected, atol=tolerance, rtol=0)
            assert not probabilities[:, expected.shape[1] :].any()  # no class without an example
            assert novelty.shape == (len(query),) and np.isfinite(novelty).all()


@pytest.mark.sweep
@pytest.mark.parametrize(
    "network, norm",
    [
        ("conv4", "batch"),
        ("conv4", "none"),
        ("mlp", "group"),
        ("resnet12", "batch"),  # a minute or two of tracing each
        ("gru", "group"),
    ],
)
def test_every_network_learns_in_a_graph(
    network: str, norm: str, make_learner: MakeLearner, pictures: np.ndarray, tiny_settings: Settings
):
    settings = with_method(tiny_settings, "maml", inner_steps=2, norm=norm, inner_rate=SMALL_RATE)
    own = settings.network.model_copy(update={"name": network, "width": 8})
    settings = settings.model_copy(update={"network": own})
    learner = make_learner("maml", settings)
    sessions = sessions_of(learner, settings)
    rng = np.random.default_rng(1)
    for shots in (3, 4, 5):
        rows, labels = rng.permutation(len(pictures)), np.arange(5 * shots) % 5
        support, query = pictures[rows[: 5 * shots]], pictures[rows[-4:]]
        expected = learner.adapt(support, labels).predict_proba(query)
        found, _ = adapted(sessions, support, labels, query)
        np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=MANY_STEPS, rtol=0)


@pytest.fixture(scope="module")
def protonet(make_learner: MakeLearner, tiny_settings: Settings) -> tuple[Learner, dict]:
    """With weights (seed 3) whose embeddings of noise are far from those of shapes, untrained as they are."""
    learner = make_learner("protonet", tiny_settings.model_copy(update={"seed": 3}))
    return learner, sessions_of(learner, tiny_settings)


def test_pictures_of_any_size(protonet: tuple[Learner, dict], pictures: np.ndarray):
    learner, sessions = protonet
    labels = np.arange(4).repeat(2)
    support, query = pictures[: 4 * 8 : 4].repeat(2, axis=1)[:, 5:], pictures[40:43].repeat(3, axis=2)
    expected = learner.adapt(resize(support, 28), labels).predict_proba(resize(query, 28))
    for answer in (adapted, classified):
        np.testing.assert_allclose(answer(sessions, support, labels, query)[0][:, :4], expected, atol=1e-5, rtol=0)


def test_what_is_like_nothing_has_a_high_score(protonet: tuple[Learner, dict], pictures: np.ndarray):
    """A class's own further examples against noise, whether classes have several examples or one."""
    _, sessions = protonet
    noise = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    for shots in (5, 1):
        rows = np.arange(4)[:, None] * 8 + np.arange(8)
        support, labels = pictures[rows[:, :shots].ravel()], np.arange(4).repeat(shots)
        _, own = adapted(sessions, support, labels, pictures[rows[:, 5:].ravel()])
        _, other = adapted(sessions, support, labels, noise)
        assert np.median(own) < 2 and other.min() > 1.2 * np.median(own)


def test_a_task_may_have_all_ways(protonet: tuple[Learner, dict], pictures: np.ndarray, tiny_settings: Settings):
    learner, sessions = protonet
    ways = tiny_settings.export.max_ways
    support, query = pictures[np.arange(ways) * 2], pictures[1:9]
    expected = learner.adapt(support, np.arange(ways)).predict_proba(query)
    np.testing.assert_allclose(adapted(sessions, support, np.arange(ways), query)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", [pytest.param("protonet", marks=pytest.mark.slow), pytest.param("maml", marks=pytest.mark.sweep)]
)
def test_files_stand_alone(
    name: str, make_learner: MakeLearner, tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No functions, operators or weights from elsewhere, and nothing of the maker; traced twice, the same bytes."""
    settings = with_method(tiny_settings, name, **STEPS.get(name, {}))
    graphs = learning_graphs(make_learner(name, settings), settings.export, ABOUT)
    for data in graphs.values():
        model = onnx.load_from_string(data)
        assert {each.key: each.value for each in model.metadata_props} == ABOUT
        assert [(each.domain, each.version) for each in model.opset_import] == [("", settings.export.opset)]
        assert not model.functions and not {node.domain for node in model.graph.node} - {""}
        assert b".py" not in data and b"site-packages" not in data
    monkeypatch.setattr(onnxfile, "GRAPHS", tmp_path)  # where none has been made before
    assert learning_graphs(make_learner(name, settings), settings.export, ABOUT) == graphs
