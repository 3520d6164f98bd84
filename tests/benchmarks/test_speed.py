"""The speed benchmark's arithmetic, and that it runs; never its figures, as machines are noisy."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

WIDTH, SUPPORT, QUERY = 16, 3, 4


@pytest.fixture
def modules(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    return importlib.import_module("arithmetic"), importlib.import_module("peers")


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("first_order", [False, True])
def test_multiply_adds_are_those_that_torch_counts(modules, first_order, steps):
    arithmetic, peers = modules
    weights = {}
    for block in range(4):
        weights[f"{block}.conv"] = torch.randn(WIDTH, 1 if block == 0 else WIDTH, 3, 3)
        weights |= {f"{block}.scale": torch.ones(WIDTH), f"{block}.shift": torch.zeros(WIDTH)}
    network = peers.torch_network(weights, "group", 4, 3)
    start = dict(network.named_parameters())
    with FlopCounterMode(display=False) as counter:
        fast = start
        for _ in range(steps):
            answer = torch.func.functional_call(network, fast, (torch.randn(SUPPORT, 1, 28, 28),))
            loss = F.cross_entropy(answer, torch.arange(3))
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=not first_order)
            fast = {name: w - 0.1 * g for (name, w), g in zip(fast.items(), gradients, strict=True)}
        answer = torch.func.functional_call(network, fast, (torch.randn(QUERY, 1, 28, 28),))
        F.cross_entropy(answer, torch.zeros(QUERY, dtype=torch.long)).backward()
    counts = counter.get_flop_counts()["Global"]
    convolutions = sum(flops for operator, flops in counts.items() if "convolution" in str(operator))
    cost = arithmetic.conv4_macs(1, WIDTH, 28)
    # torch's second derivative takes one product more in the first block, for the image's own gradient
    wasted = 0 if first_order else SUPPORT * steps * cost[1]
    assert convolutions == 2 * (arithmetic.maml_macs(SUPPORT, QUERY, steps, first_order, cost) + wasted)


def test_every_row_is_a_step_of_ours(modules):
    speed = importlib.import_module("speed")
    for work in {row.title: row.work for row in speed.rows(quick=True)}.values():
        here, _ = speed.present(replace(work, width=8))
        assert math.isfinite(float(here[0].step()))


def test_the_engine_itself_is_no_part_of_what_steps_take(modules, monkeypatch):
    """It is there before memory is looked at, as the peers' libraries are."""
    speed, events = importlib.import_module("speed"), []
    step = SimpleNamespace(forget=lambda: None, step=lambda: events.append("step"))
    monkeypatch.setattr(speed, "contender", lambda *given: step)
    monkeypatch.setattr(speed, "described", lambda: events.append("engine"))
    monkeypatch.setattr(speed, "_resident", lambda field: events.append(field) or 1.0)
    for name in (speed.OURS, f"{speed.OURS}, recompute", "higher"):
        speed.memory_of(name, 1, quick=True)
    taken = ["VmRSS", "step", "step", "VmHWM"]
    assert events == [*["engine", *taken] * 2, *taken]


@pytest.mark.slow
def test_the_benchmark_runs(repo):
    missing = [name for name in ("higher", "torchopt", "easyfsl") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -e '.[bench]'")
    command = [sys.executable, str(repo / "benchmarks/speed.py"), "--quick"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for who, rows in (("metaloom", 10), ("higher", 7), ("torchopt", 7), ("learn2learn", 7), ("easyfsl", 2)):
        rates, _, rest = output.partition("\nconv peak")
        assert rates.count(f" | {who} | ") == rows
    assert "second order, group | 1 inner step | 2 inner steps" in rest
