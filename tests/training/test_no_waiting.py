"""A training step never makes the host wait for a GPU: it reads nothing there, and brings nothing but what it draws.

Checked without a GPU: whatever reads a value or makes a tensor from Python's numbers passes the dispatcher.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trainers import CLASSES, COUNT, trainer, turned

from metaloom.learner.scoring import scores
from metaloom.methods import METHOD_CLASSES
from metaloom.networks import NETWORKS
from metaloom.tasks.sampler import EpisodeSampler

WAITING = {"_local_scalar_dense", "lift_fresh", "lift", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2"}


class NoWaiting(TorchDispatchMode):
    """Raises where a GPU's host would have to wait, or would bring numbers of its own."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        devices = {each.device.type for each in args if isinstance(each, torch.Tensor)}
        across = name == "copy_" and len(devices) > 1
        masked = name == "index" and any(each is not None and each.dtype == torch.bool for each in args[1])
        if name in WAITING or across or masked:
            raise AssertionError(f"{name} makes the host wait")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def device_form(monkeypatch):
    """What a GPU takes, though a mode is on, which otherwise means tracing."""
    monkeypatch.setattr("metaloom.networks.layers.traced", lambda: False)
    for module in ("layers", "conv4"):
        monkeypatch.setattr(f"metaloom.networks.{module}.on_cpu", lambda x: False)


def steps(made, count: int = 2) -> None:
    """The first may fill what is kept. Adam's kernel is that of a GPU: the CPU's own looks at its count of steps."""
    state = made._begun()
    if isinstance(state.optimiser, torch.optim.Adam):
        state.optimiser = torch.optim.Adam(state.params.weights.values(), fused=True)
    made._step(state, made._work)
    with NoWaiting(), patch.object(torch.Tensor, "tolist", side_effect=AssertionError("tolist makes the host wait")):
        for _ in range(count):
            made._step(state, made._work)


@pytest.mark.parametrize(
    "waiting",
    [
        lambda: float(torch.ones(())),
        lambda: torch.ones(3).max().item(),
        lambda: torch.tensor(1.0),
        lambda: torch.tensor([1.0, 2.0]),
        lambda: torch.ones(3)[torch.ones(3) > 0],
    ],
)
def test_what_waits_is_caught(waiting):
    with pytest.raises(AssertionError, match="makes the host wait"), NoWaiting():
        waiting()


@pytest.mark.parametrize("name", METHOD_CLASSES)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_step_of_every_method(name, norm, tiny_settings, tmp_path, device_form):
    own = {"norm": norm} | ({"inner_steps": 2, "first_order": False} if name == "maml" else {})
    settings = tiny_settings.model_copy(update={name: tiny_settings.method(name).model_copy(update=own)})
    train = settings.train.model_copy(update={"distortion": 0.5, "within_domain": 0.5})
    made = turned(trainer(name, settings, tmp_path, settings=train), rotations=True, mirror=True)
    table = pd.DataFrame({"domain": range(CLASSES), "first": range(0, CLASSES * COUNT, COUNT), "count": COUNT})
    kind = made.learner.encoding.kind
    steps(replace(made, sampler=EpisodeSampler.for_training(table, train, kind.views, torch.device("cpu"))))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_step_of_every_network_with_dropout(network, precision, tiny_settings, tmp_path, device_form):
    net = tiny_settings.network.model_copy(update={"name": network, "dropout": 0.1})
    train = tiny_settings.train.model_copy(update={"precision": precision})
    steps(trainer("protonet", tiny_settings.model_copy(update={"network": net}), tmp_path, settings=train))


class NoDoubles(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        assert not (isinstance(result, torch.Tensor) and result.is_meta and result.dtype == torch.float64)
        return result


def test_scores_take_no_float64_from_a_device_that_may_have_none(tiny_settings, tmp_path):
    validation = trainer("protonet", tiny_settings, tmp_path).validation
    answers = torch.zeros(len(validation), len(validation.answers), validation.n_way, device="meta")
    with NoDoubles(), pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        scores(answers, validation)  # it got as far as to bring them to the host, which a meta tensor cannot
