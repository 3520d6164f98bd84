"""A bank's task model leaves the house like any other, whether one network was picked or all are mixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from metaloom.config import Settings
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner import Learner
from metaloom.methods.bank import Bank
from metaloom.training.bank.members import joined, with_moments

MEMBERS = 2


def a_bank(pictures: np.ndarray, settings: Settings, route: str) -> Learner:
    """Members of random weights, the second one used to other pixels."""
    settings = settings.model_copy(update={"bank": settings.bank.model_copy(update={"route": route})})
    shared = PictureEncoding.of(pictures)
    single = Learner.create("bank", settings, shared)
    own = [shared, PictureEncoding(Pictures(28, 1), (128.0,), (60.0,))]
    ones = []
    for seed, normalisation in enumerate(own):
        fresh = single.method.init(torch.Generator().manual_seed(seed))
        x = normalisation(torch.as_tensor(pictures))
        _, statistics = single.method.network(fresh.weights, x)
        filled = replace(fresh, statistics=fresh.statistics | statistics)
        assert isinstance(single.method, Bank)
        ones.append(with_moments(single.method, filled, x))
    method = Bank(single.method.network.member, settings.bank, MEMBERS)
    return replace(single, method=method, params=joined(ones, own, shared))


@pytest.mark.slow
@pytest.mark.parametrize("route", [pytest.param("pick", marks=pytest.mark.sweep), "mix"])
def test_probabilities_are_those_of_torch(route: str, pictures: np.ndarray, tiny_settings: Settings):
    support, labels = pictures[: 4 * 8 : 4], np.arange(4).repeat(2)
    task = a_bank(pictures, tiny_settings, route).adapt(support, labels)
    data = to_onnx(task, novelty_of(task, support, labels), tiny_settings.export, {"metaloom.method": "bank"})
    found = onnxruntime.InferenceSession(data).run(None, {"examples": pictures[40:70]})[0]
    np.testing.assert_allclose(np.asarray(found), task.predict_proba(pictures[40:70]), atol=1e-5, rtol=0)
    convolutions = [node for node in onnx.load_from_string(data).graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 4 * (MEMBERS if route == "mix" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("route", [pytest.param("pick", marks=pytest.mark.sweep), "mix"])
def test_a_bank_learns_in_a_graph_too(route: str, pictures: np.ndarray, tiny_settings: Settings):
    bank = a_bank(pictures, tiny_settings, route)
    session = onnxruntime.InferenceSession(learning_graphs(bank, tiny_settings.export, {})["adapt.onnx"])
    support, labels, query = pictures[: 4 * 8 : 4], np.arange(4).repeat(2), pictures[40:50]
    found = session.run(None, {"support_x": support, "support_y": labels, "query_x": query})[0]
    expected = bank.adapt(support, labels).predict_proba(query)
    np.testing.assert_allclose(np.asarray(found)[:, :4], expected, atol=1e-5, rtol=0)
