"""Reptile: train on a task, move some way towards where that ended.

Nichol, Achiam, Schulman: On First-Order Meta-Learning Algorithms, 2018 (https://arxiv.org/abs/1803.02999),
algorithm 2. k steps of SGD on minibatches of a task lead from the shared weights φ to φ̃; then φ ← φ + ε(φ̃ - φ),
the mean over a step's tasks. φ: `params.weights`, k: `inner_steps`, SGD's rate: `inner_rate`, size of a minibatch:
`batch`, ε: `learning_rate`, which the trainer anneals to zero (the paper linearly).

A task's minibatches are drawn from its support and query examples together, in an order that takes all classes
in turn and begins again at the end: nothing random, so that a resumed run does the same. We deviate in three
places. The head starts at the prototypes of all examples, which the first step then takes too, or at zero (`head`,
`metaloom.methods.gradient`); nothing of it is carried to another task. In every minibatch the classes count alike.
And when adapting, every step takes the whole support set, so that its order does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import ReptileSettings
from metaloom.methods.base import Method, rate_for
from metaloom.methods.gradient import (
    HEAD,
    balanced_nll,
    descended,
    first_gradients,
    first_head,
    interpolated,
    named,
    nll_and_gradients,
    stacked,
    task_model,
)
from metaloom.methods.model import Episodes, Params, TaskModel, of_ways, one_hot
from metaloom.networks import Tensors
from metaloom.system.optimisers import SGD


class Reptile(Method):
    """Gradient steps on all weights; training moves the shared weights towards them."""

    settings: ReptileSettings

    def optimiser(self, leaves: list[Tensor]) -> torch.optim.Optimizer:
        """Plain SGD on φ - φ̃ is the interpolation."""
        return SGD(leaves, **rate_for(leaves, self.settings.learning_rate))

    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        """As for any method; the gradients of the inner steps count as constants where autograd records."""
        everything = [torch.arange(support_y.shape[0], device=support_y.device)] * self.settings.inner_steps
        start, adapted, _, _ = self._descended(params.weights, support_x, support_y, n_way, everything)
        return task_model(self.network, interpolated(params.weights | start, adapted, self.settings), support_x)

    def loss(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], Params]:
        """Mean NLL over the minibatches of all inner steps, each before its step.

        Its gradient is not that of its value: it is φ - φ̃, the mean over tasks.
        """
        x = torch.cat([episodes.support_x, episodes.query_x], dim=1)
        y = torch.cat([episodes.support_y, episodes.query_y])
        batches = list(minibatches(y, episodes.n_way, self.settings.inner_steps, self.settings.batch))
        if self.settings.head == "prototypes":  # of all examples
            batches[0] = torch.arange(len(y), device=y.device)
        with torch.no_grad():
            _, adapted, nll, statistics = self._descended(params.weights, x, y, episodes.n_way, batches, generator)
        surrogate = nll
        for name, weight in params.weights.items():
            moved = (weight.detach() - adapted[name]) / len(episodes)
            surrogate = surrogate + ((weight - weight.detach()) * moved).sum()
        return surrogate, self.moved(params, statistics)

    def _descended(
        self,
        shared: Tensors,
        x: Tensor,
        y: Tensor,
        n_way: int,
        batches: Iterable[Tensor],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensors, Tensors, Float[Tensor, ""], Tensors]:
        """The head before and all weights after a step of SGD on each batch of items, the mean NLL over tasks and
        batches, and the first batch's statistics under the shared weights."""
        rate = self.settings.inner_rate
        rates: Tensors = {name: rate * of_ways(y, n_way) for name in HEAD}
        first, *others = batches
        item = -1 - len(self.network.shape)
        z, statistics = self.network(shared, x.index_select(item, first), generator=generator)
        z = z.detach()
        head = first_head(self.settings, z, y, n_way)
        start, gradients = named(head), first_gradients(head, z, y[first])
        moved = descended(start, gradients, rates, rate)
        weights, losses = stacked(shared, x.shape[:item]) | moved, [balanced_nll(head.logits(z), y[first])]
        for batch in others:
            nll, gradients = nll_and_gradients(
                self.network, weights, x.index_select(item, batch), y[batch], twice=False, generator=generator
            )
            weights = descended(weights, gradients, rates, rate)
            losses.append(nll.detach())
        return start, weights, torch.stack(losses).mean() / math.prod(x.shape[:item]), statistics


def minibatches(labels: Int[Tensor, " item"], n_way: int, steps: int, size: int) -> Int[Tensor, "{steps} batch"]:
    """Items of each step's minibatch: cyclic through the first items of all classes, then the second ones, …"""
    member = one_hot(labels, n_way).long()
    turn = (member.cumsum(dim=0) * member).sum(dim=1) * n_way + labels
    place = torch.arange(steps * min(size, len(labels)), device=labels.device) % len(labels)
    return turn.argsort(stable=True)[place].view(steps, -1)
