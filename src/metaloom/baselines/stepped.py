"""Networks trained on support sets: from random weights, or from pre-trained ones, those of several tasks side by side.

Tasks that are trained together have their weights and draws to themselves: each network is the one that it would be
alone, to rounding. What they share is the call of every layer, which for few examples is most of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.baselines.heads import FLOAT, Fitted, linear_head
from metaloom.kinds import Kind
from metaloom.methods.gradient import HEAD
from metaloom.methods.model import class_weights, one_hot
from metaloom.networks import Network, Tensors
from metaloom.system.optimisers import Adam

AT_A_TIME = 64  # examples that are answered together: bounds memory
PROBE = 10.0  # C of the logistic regression that a pre-trained network's head starts as
TOGETHER = 10  # tasks that are trained side by side, at most
WEIGHTS = 16 << 20  # bytes of their weights, at most; gradients and moments are three times as much again
EXAMPLES = 256  # of a step of all of them, at most


@dataclass(frozen=True)
class Start:
    """Where training starts: None for random weights, drawn from the task's seed.

    Args:
        network: what is trained.
        kind: of the examples, which says how they are distorted.
        weights: pre-trained.
        statistics: batch norm's, which stay as they are; without them the support set's own are taken.
    """

    network: Network
    kind: Kind
    weights: Tensors | None = None
    statistics: Tensors | None = None


@dataclass(frozen=True)
class Trained:
    """The networks of some tasks: weights (the network's and a linear head's) with an axis for the tasks, and batch
    norm's statistics, with one or without."""

    network: Network
    weights: Tensors
    statistics: Tensors | None

    def logits(self, x: Float[Tensor, "task query ..."]) -> Float[Tensor, "task query n_way"]:
        """The logits of each task's queries by its own network, a part of them at a time."""
        with torch.no_grad():
            parts = x.split(max(1, AT_A_TIME // len(x)), dim=1)
            z = torch.cat([self.network(self.weights, part, self.statistics)[0] for part in parts], dim=1)
            return _of_head(self.weights, z)

    def of_task(self, task: int) -> Trained:
        """One task's, with an axis of length one."""
        own = slice(task, task + 1)
        weights = {name: weight[own].clone() for name, weight in self.weights.items()}
        statistics = self.statistics and {k: v[own] if v.dim() > 1 else v for k, v in self.statistics.items()}
        return Trained(self.network, weights, statistics)


def together(start: Start, choice: dict[str, Any], examples: int) -> int:
    """How many tasks of so many labelled examples may be trained side by side: bounds memory."""
    weights = start.weights or start.network.init(torch.Generator())
    size = sum(weight.nbytes for weight in weights.values())
    return max(1, min(TOGETHER, WEIGHTS // size, EXAMPLES // min(choice["batch"], examples)))


def fitted(
    start: Start,
    choice: dict[str, Any],
    x: Float[Tensor, "task support ..."],
    y: Int[Tensor, " support"],
    seeds: Sequence[int],
) -> list[Fitted]:
    """The model of each task, like those of the learners on features: it gives raw scores for encoded examples."""
    trained = stepped(start, choice, x, y, seeds)
    return [_fitted(trained.of_task(task)) for task in range(len(x))]


def _fitted(trained: Trained) -> Fitted:
    size = FLOAT * sum(weight.numel() for weight in trained.weights.values())
    return Fitted(lambda queries: trained.logits(torch.as_tensor(queries)[None])[0].numpy(), size)


def stepped(
    start: Start,
    choice: dict[str, Any],
    x: Float[Tensor, "task support ..."],
    y: Int[Tensor, " support"],
    seeds: Sequence[int],
) -> Trained:
    """The networks after training, each on the support set of one task.

    Args:
        start: where they start.
        choice: `steps` (so many, or the steps of `epochs` where those are more), `batch` (examples of a step),
            `learning_rate`, `distortion` (of the examples, at every step), and `norm`, where the network is not
            pre-trained.
        x: encoded examples.
        y: their ways, the same in every task.
        seeds: of each task's weights and distortions.
    """
    if "norm" in choice:
        start = replace(start, network=replace(start.network, norm=choice["norm"]))
    steps = max(choice["steps"], math.ceil(choice["epochs"] * len(y) / choice["batch"]))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    weights = _first_weights(start, x, y, generators)
    optimiser = Adam(list(weights.values()), lr=choice["learning_rate"], fused=True)
    batches = [_batches(len(y), choice["batch"], generator) for generator in generators]
    alike = class_weights(one_hot(y, int(y.max()) + 1), x.dtype)
    task = torch.arange(len(x))[:, None]
    for _ in range(steps):
        batch = torch.stack([next(own) for own in batches])
        seen = x[task, batch]
        if choice["distortion"]:
            of_task = batch.shape[1], start.kind.chances
            chances = torch.stack([torch.rand(*of_task, generator=own, dtype=x.dtype) for own in generators])
            seen = start.kind.distorted(seen, chances, choice["distortion"])
        z, _ = start.network(weights, seen, start.statistics)
        nll = F.cross_entropy(_of_head(weights, z).mT, y[batch], alike, reduction="none")
        optimiser.zero_grad()
        (nll.sum(dim=1) / alike[y[batch]].sum(dim=1)).sum().backward()
        optimiser.step()
    return _model(start, weights, x)


def _of_head(weights: Tensors, z: Float[Tensor, "task example embed"]) -> Float[Tensor, "task example n_way"]:
    weight, bias = (weights[name] for name in HEAD)
    return z @ weight.mT + bias[:, None]


def _batches(examples: int, size: int, generator: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
    """Places of so many examples, all of them before any comes again."""
    order = torch.arange(0)
    while True:
        while len(order) < min(size, examples):
            order = torch.cat([order, torch.randperm(examples, generator=generator)])
        yield order[:size] if examples > size else order[:examples]
        order = order[min(size, examples) :]


def _first_weights(start: Start, x: Tensor, y: Tensor, generators: Sequence[torch.Generator]) -> Tensors:
    """Random ones and a head of zeros, or the pre-trained ones and a head fitted to their embeddings: training all
    layers from a fitted head keeps more of what they know (Kumar, Raghunathan, Jones, Ma, Liang: Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution, 2022, https://arxiv.org/abs/2202.10054)."""
    network, n_way = start.network, int(y.max()) + 1
    if start.weights is None:
        own = [network.init(generator) for generator in generators]
        heads = [(torch.zeros(n_way, network.embed), torch.zeros(n_way))] * len(own)
    else:
        own = [start.weights] * len(x)
        with torch.no_grad():
            heads = [probe(network(start.weights, each, start.statistics)[0], y) for each in x]
    all_of_them = [tensors | dict(zip(HEAD, head, strict=True)) for tensors, head in zip(own, heads, strict=True)]
    return {name: torch.stack([each[name] for each in all_of_them]).requires_grad_() for name in all_of_them[0]}


def probe(
    z: Float[Tensor, "support embed"], y: Int[Tensor, " support"]
) -> tuple[Float[Tensor, "n_way embed"], Float[Tensor, " n_way"]]:
    """Weight and bias of a logistic regression on embeddings, brought to unit mean square length for it."""
    length = z.square().sum(dim=1).mean().sqrt()
    weight, bias = linear_head(PROBE, (z / length).numpy(), y.numpy())
    return torch.as_tensor(weight, dtype=z.dtype) / length, torch.as_tensor(bias, dtype=z.dtype)


def _model(start: Start, weights: Tensors, x: Tensor) -> Trained:
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    statistics = start.statistics
    if statistics is None and start.network.norm == "batch":
        with torch.no_grad():
            statistics = start.network(kept, x)[1]
    return Trained(start.network, kept, statistics)
