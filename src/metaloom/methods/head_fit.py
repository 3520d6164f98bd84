"""A linear head fitted by gradient descent, its gradients written out.

Without autograd inside it runs under `no_grad`, on one task or on stacked ones, and what comes out is
differentiable in the embeddings, the start and the rate where autograd records.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.methods.model import Head, class_weights, classes_seen, one_hot


class Fit(NamedTuple):
    """A fitted head; `reach` is what the labelled examples of a class add to its weight, as a multiple of themselves,
    summed over them: the mean over the classes, a constant."""

    head: Head
    reach: Float[Tensor, "*task"]


def fit_head(
    start: Head,
    z: Float[Tensor, "*task support embed"],
    y: Int[Tensor, " support"],
    steps: int,
    rate: float | Float[Tensor, ""],
) -> Fit:
    """Full-batch gradient descent on the mean NLL of the support set: W ← W - rate·(P - Y)ᵀBZ/n for `steps` steps.

    P are the softmax probabilities, Y the one-hot labels, n the support examples, and B has weights under which every
    class counts alike (1 where all have as many examples). Embeddings are taken as they
    are, so these are the steps of SGD with this rate. Each lowers the loss while rate · (mean ‖z‖² + 1) < 4, as
    the Hessian's largest eigenvalue is at most (mean ‖z‖² + 1) / 2: a caller whose embeddings have no fixed scale
    divides them by their norm first.

    Args:
        start: the head to start from, one for all tasks or one for each.
        z: embeddings of the support examples.
        y: the way of each, 0 to n_way - 1, the same in every task.
        steps: how many.
        rate: of the steps, for the weight and the bias.
    """
    targets, weight = _targets(y, start.bias.shape[-1], z.dtype)
    head, slopes = start, torch.zeros_like(targets)
    for _ in range(steps):
        slope = _slope(head, z, targets, weight)
        head = Head(head.weight - rate * (slope.mT @ z), head.bias - rate * slope.sum(dim=-2))
        slopes = slopes + slope.detach()
    return Fit(head, -rate * (slopes * targets).sum(dim=(-2, -1)) / classes_seen(y, targets.shape[-1]).sum())


def head_gradients(head: Head, z: Float[Tensor, "*task support embed"], y: Int[Tensor, " support"]) -> Head:
    """Gradients of a support set's mean NLL, in which every class counts alike, in the head's weight and bias: one of
    each for every task. The arguments are those of `fit_head`."""
    slope = _slope(head, z, *_targets(y, head.bias.shape[-1], z.dtype))
    return Head(slope.mT @ z, slope.sum(dim=-2))


def _targets(y: Tensor, n_way: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The one-hot labels, and a weight for each example, under which every class counts alike."""
    member = one_hot(y, n_way)
    return member.to(dtype), class_weights(member, dtype)[y, None]


def _slope(head: Head, z: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the loss in the logits."""
    count = targets.shape[0]  # which stays a variable where a graph is traced, as len() does not
    return (head.logits(z).softmax(dim=-1) - targets) * weight / count
