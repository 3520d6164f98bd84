"""A network trained on the support set: from random weights, or from pre-trained ones.

How many steps are enough is found inside the support set: two networks learn from a half of it each, and the number of
steps at which they know the other half best is taken for the one that learns from all. With one label a class there is
nothing to hold out, and every step is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.baselines.heads import FLOAT, Fitted, linear_head
from metaloom.kinds import Kind
from metaloom.networks import Network, Tensors

HEAD = ("head.weight", "head.bias")
LOOKS = 4  # how often on the way the held-out half is asked
FOLDS = 2
AT_A_TIME = 64  # images that are answered together: bounds memory
PROBE = 10.0  # C of the logistic regression that a pre-trained network's head starts as


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


def stepped(
    start: Start,
    choice: dict[str, Any],
    x: Float[Tensor, "support ..."],
    y: Int[Tensor, " support"],
    seed: int,
) -> tuple[Tensors, Tensors | None]:
    """Weights (the network's and a linear head's) after training on a support set, and batch norm's statistics.

    Args:
        start: where it starts.
        choice: `steps` (at most so many, or the steps of `epochs` where those are more), `batch` (images of a step),
            `learning_rate`, `distortion` (of the images, at every step), and `norm`, where the network is not
            pre-trained.
        x: normalised images.
        y: their ways.
        seed: of the weights and distortions.
    """
    if "norm" in choice:
        start = replace(start, network=replace(start.network, norm=choice["norm"]))
    folds, steps = halves(y), max(choice["steps"], math.ceil(choice["epochs"] * len(y) / choice["batch"]))
    if folds is not None:
        nll = np.zeros(LOOKS + 1)
        for fold in range(FOLDS):
            kept, asked = folds != fold, folds == fold
            for look, model in enumerate(_looks(start, choice, x[kept], y[kept], seed, steps)):
                nll[look] += float(F.cross_entropy(_logits(start.network, *model, x[asked]), y[asked], reduction="sum"))
        steps = round(steps * int(nll.argmin()) / LOOKS)
    *_, last = _looks(start, choice, x, y, seed, steps)
    return last


def halves(y: Int[Tensor, " support"]) -> Int[Tensor, " support"] | None:
    """Which half each example is in; -1, never held out, for the only one of its class. None where all are."""
    rank = torch.stack([(y[:place] == way).sum() for place, way in enumerate(y)])
    only = y.bincount()[y] < FOLDS
    return None if only.all() else torch.where(only, -1, rank % FOLDS)


def fitted(start: Start, choice: dict[str, Any], x: Tensor, y: Tensor, seed: int) -> Fitted:
    """As the learners on features are: raw scores for normalised images."""
    weights, statistics = stepped(start, choice, x, y, seed)
    size = FLOAT * sum(weight.numel() for weight in weights.values())
    return Fitted(lambda queries: _logits(start.network, weights, statistics, torch.as_tensor(queries)).numpy(), size)


def _looks(
    start: Start, choice: dict[str, Any], x: Tensor, y: Tensor, seed: int, steps: int
) -> Iterator[tuple[Tensors, Tensors | None]]:
    """The model before training and after each quarter of it."""
    generator = torch.Generator().manual_seed(seed)
    weights = _first_weights(start, x, y, generator)
    optimiser = torch.optim.Adam(list(weights.values()), lr=choice["learning_rate"], fused=True)
    batches = _batches(len(y), choice["batch"], generator)
    marks = {round(steps * look / LOOKS): look for look in range(1, LOOKS + 1)} if steps else {}
    alike = len(y) / (len(y.unique()) * y.bincount().clamp(min=1).to(x.dtype))  # classes count alike
    yield _model(start, weights, x)
    for step in range(1, steps + 1):
        batch = next(batches)
        seen = x[batch]
        if choice["distortion"]:
            chances = torch.rand(len(seen), start.kind.chances, generator=generator)
            seen = start.kind.distorted(seen, chances, choice["distortion"])
        z, _ = start.network(weights, seen, start.statistics)
        optimiser.zero_grad()
        F.cross_entropy(F.linear(z, *(weights[name] for name in HEAD)), y[batch], alike).backward()
        optimiser.step()
        if step in marks:
            yield _model(start, weights, x)


def _batches(examples: int, size: int, generator: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
    """Places of so many examples, all of them before any comes again."""
    order = torch.arange(0)
    while True:
        while len(order) < min(size, examples):
            order = torch.cat([order, torch.randperm(examples, generator=generator)])
        yield order[:size] if examples > size else order[:examples]
        order = order[min(size, examples) :]


def _first_weights(start: Start, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensors:
    """Random ones and a head of zeros, or the pre-trained ones and a head fitted to their embeddings: training all
    layers from a fitted head keeps more of what they know (Kumar, Raghunathan, Jones, Ma, Liang: Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution, 2022, https://arxiv.org/abs/2202.10054)."""
    network, n_way = start.network, int(y.max()) + 1
    if start.weights is None:
        weights = network.init(generator)
        head = torch.zeros(n_way, network.embed), torch.zeros(n_way)
    else:
        weights = {name: weight.clone() for name, weight in start.weights.items()}
        with torch.no_grad():
            head = probe(network(weights, x, start.statistics)[0], y)
    return {name: w.detach().requires_grad_() for name, w in (weights | dict(zip(HEAD, head, strict=True))).items()}


def probe(
    z: Float[Tensor, "support embed"], y: Int[Tensor, " support"]
) -> tuple[Float[Tensor, "n_way embed"], Float[Tensor, " n_way"]]:
    """Weight and bias of a logistic regression on embeddings, brought to unit mean square length for it."""
    length = z.square().sum(dim=1).mean().sqrt()
    weight, bias = linear_head(PROBE, (z / length).numpy(), y.numpy())
    return torch.as_tensor(weight, dtype=z.dtype) / length, torch.as_tensor(bias, dtype=z.dtype)


def _model(start: Start, weights: Tensors, x: Tensor) -> tuple[Tensors, Tensors | None]:
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    if start.statistics is not None or start.network.norm != "batch":
        return kept, start.statistics
    with torch.no_grad():
        return kept, start.network(kept, x)[1]


def _logits(network: Network, weights: Tensors, statistics: Tensors | None, x: Tensor) -> Tensor:
    with torch.no_grad():
        parts = [network(weights, part, statistics)[0] for part in x.split(AT_A_TIME)]
        return F.linear(torch.cat(parts), *(weights[name] for name in HEAD))
