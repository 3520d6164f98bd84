"""Every method with every network: one walk for what all of them promise."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metaloom.config import Settings
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner import Learner
from metaloom.methods import METHOD_CLASSES, Episodes, Params
from metaloom.networks import NETWORKS
from metaloom.training.compiled import CompiledLoss

WAYS, SIZE, WIDTH, CHANNELS = 3, 16, 4, 3
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
# tracing takes seconds, and what a network does in it is the same for every method
TRACED = [(method, "mlp") for method in METHOD_CLASSES] + [("protonet", n) for n in NETWORKS if n != "mlp"]
QUICK = [("protonet", "mlp"), ("protonet", "conv4"), ("maml", "mlp")]
ALL = [pytest.param(method, network, id=f"{method}-{network}") for method in METHOD_CLASSES for network in NETWORKS]


def learner_of(settings: Settings, method: str, network: str) -> Learner:
    """Weights and statistics are away from zeros and ones, where mistakes hide; with seed 2 the last ReLU of every
    network cuts something off, without which a shift that all embeddings share has no gradient."""
    small = settings.network.model_copy(update={"name": network, "width": WIDTH})
    learner = Learner.create(
        method,
        settings.model_copy(update={"network": small, "seed": 2}),
        PictureEncoding(Pictures(SIZE, 3), (128.0,) * 3, (64.0,) * 3),
    )
    generator = torch.Generator().manual_seed(1)

    def moved(tensors: dict) -> dict:
        return {k: v + 0.1 * torch.rand(v.shape, generator=generator) for k, v in tensors.items()}

    return replace(learner, params=Params(moved(learner.params.weights), moved(learner.params.statistics)))


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, CHANNELS), dtype=np.uint8)


def episodes_of(learner: Learner, tasks: int = 2, shots: int = 2, queries: int = 2) -> Episodes:
    """In float64, where what is zero and what is equal shows."""
    support, query = (
        learner.encoding(torch.from_numpy(pixels(tasks * WAYS * each, seed))).double().unflatten(0, (tasks, -1))
        for seed, each in enumerate((shots, queries))
    )
    way = torch.arange(WAYS)
    ways = (way.repeat_interleave(shots), way.repeat_interleave(queries))
    return Episodes(support, ways[0], query, ways[1], WAYS, classes=way.expand(tasks, -1))


def training_params(learner: Learner) -> Params:
    own = learner.method.training_weights(torch.Generator().manual_seed(2), WAYS)
    groups = (learner.params.weights | own, learner.params.statistics)
    weights, statistics = ({name: value.double() for name, value in group.items()} for group in groups)
    return Params({name: weight.requires_grad_() for name, weight in weights.items()}, statistics)


def loss_and_gradients(loss_of, learner: Learner) -> tuple[torch.Tensor, dict, dict]:
    params = training_params(learner)
    loss, moved = loss_of(params, episodes_of(learner))
    (loss * 0.5).backward()
    gradients = {name: weight.grad for name, weight in params.weights.items()}
    return loss.detach(), gradients, moved.statistics


@pytest.mark.parametrize(("method", "network"), ALL)
def test_a_method_s_own_weights_take_no_name_of_the_network_s(method, network, tiny_settings):
    learner = learner_of(tiny_settings, method, network)
    of_network = learner.method.network.init(torch.Generator())
    for name, weight in of_network.items():
        assert learner.params.weights[name].shape == weight.shape, name


@pytest.mark.parametrize(("method", "network"), ALL)
def test_every_weight_learns(method, network, tiny_settings):
    learner = learner_of(tiny_settings, method, network)
    loss, gradients, statistics = loss_and_gradients(learner.method.loss, learner)
    assert loss.shape == () and loss.isfinite()
    assert statistics.keys() == learner.params.statistics.keys()
    for name, gradient in gradients.items():
        assert gradient is not None and gradient.isfinite().all(), name
        if name.rpartition(".")[2] in learner.method.network.one.closed:
            assert not gradient.any(), name
            continue
        assert gradient.abs().max() > 1e-9, name


@pytest.mark.parametrize(("method", "network"), ALL)
def test_a_query_is_answered_the_same_whatever_is_beside_it(method, network, tiny_settings):
    learner = learner_of(tiny_settings, method, network)
    task = learner.adapt(pixels(2 * WAYS), ["b", "a", "c"] * 2)
    queries = pixels(4, seed=1)
    together = task.predict_proba(queries)
    assert task.classes == ["a", "b", "c"] and together.shape == (4, WAYS)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    alone = np.concatenate([task.predict_proba(each[None]) for each in queries])
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("method", "network"), ALL)
def test_a_learner_comes_back_from_disk(method, network, tiny_settings, tmp_path):
    learner = learner_of(tiny_settings, method, network)
    learner.save(tmp_path)
    answers = [
        each.adapt(pixels(2 * WAYS), [0, 1, 2] * 2).predict_proba(pixels(4, seed=1))
        for each in (learner, Learner.load(tmp_path))
    ]
    np.testing.assert_array_equal(*answers)
    assert Learner.load(tmp_path).config == learner.config


@pytest.mark.parametrize(
    ("method", "network"), [pytest.param(*each, marks=[pytest.mark.slow] * (each not in QUICK)) for each in TRACED]
)
def test_the_graph_that_is_compiled_computes_the_same(method, network, tiny_settings):
    """All of compiling but the machine code, which torch makes: tracing the loss with its gradients."""
    learner = learner_of(tiny_settings, method, network)
    assert_same_loss(learner, CompiledLoss(learner.method, method, compiler=lambda graph: graph))


@pytest.mark.slow
@COMPILER
@pytest.mark.parametrize(("method", "network"), [("protonet", "mlp")])  # a minute or more for each
def test_machine_code_computes_the_same(method, network, tiny_settings, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    learner = learner_of(tiny_settings, method, network)
    assert_same_loss(learner, CompiledLoss(learner.method, method))


def assert_same_loss(learner: Learner, compiled: CompiledLoss) -> None:
    expected = loss_and_gradients(learner.method.loss, learner)
    for _ in range(2):  # traced, and from what is kept
        for got, right in zip(loss_and_gradients(compiled, learner), expected, strict=True):
            torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-8)
