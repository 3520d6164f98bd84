"""What methods work on and give: weights, training tasks, a linear head, and the model of one task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metaloom.networks import Network, Tensors

TRAINING = "training."  # begins the names of weights that exist only while training
ROUTER = "router."  # begins the names of statistics that choose between the members of a bank
LENGTH = 64  # numbers of an embedding whose products and distances are taken as they are
WAYS = 5  # classes of a task whose head takes an inner rate as it is
UNSEEN = -1e9  # the logit of a class without an example: its probability is exactly zero


class Head(NamedTuple):
    """A linear classifier over embeddings, or one for each task."""

    weight: Float[Tensor, "*task n_way embed"]
    bias: Float[Tensor, "*task n_way"]

    def logits(self, z: Float[Tensor, "*task item embed"]) -> Float[Tensor, "*task item n_way"]:
        """Scores whose softmax are probabilities."""
        return z @ self.weight.mT + self.bias.unsqueeze(-2)

    def over(self, temperature: float) -> Head:
        """The head whose scores are these over a temperature."""
        return Head(self.weight / temperature, self.bias / temperature)


@dataclass(frozen=True)
class Params:
    """Everything a method has learned.

    Args:
        weights: what the optimiser changes; the network's, and a method's own beside them.
        statistics: batch norm's running means and variances over training tasks: those of the shared network, before
            any task.
    """

    weights: Tensors
    statistics: Tensors

    def detached(self) -> Params:
        """The same numbers as new leaves without a graph."""
        return self._each(lambda tensor: tensor.detach().clone())

    def kept(self) -> Params:
        """The same params without the weights that exist only while training."""
        weights = {name: weight for name, weight in self.weights.items() if not name.startswith(TRAINING)}
        return replace(self, weights=weights)

    def to(self, device: torch.device | str) -> Params:
        """The same numbers on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def double(self) -> Params:
        """The same numbers in float64."""
        return self._each(lambda tensor: tensor.double())

    def task_statistics(self) -> Tensors:
        """Those that a task's model needs: all but a router's, which chooses before there is one."""
        return {name: value for name, value in self.statistics.items() if not name.startswith(ROUTER)}

    def _each(self, change: Callable[[Tensor], Tensor]) -> Params:
        groups = (self.weights, self.statistics)
        return Params(*({name: change(tensor) for name, tensor in group.items()} for group in groups))


@dataclass(frozen=True)
class TaskModel:
    """A network and a linear head for one task, or stacked for several; every statistic is fixed, so no query
    sees another."""

    network: Network
    weights: Tensors
    statistics: Tensors
    head: Head

    def logits(
        self, x: Float[Tensor, ...], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*task query n_way"]:
        """Scores whose softmax are probabilities; a generator turns dropout on."""
        embedding, _ = self.network(self.weights, x, self.statistics, generator=generator)
        return self.head.logits(embedding)

    def double(self) -> TaskModel:
        """The same numbers in float64, where rounding does not show."""
        weights, statistics = ({k: v.double() for k, v in group.items()} for group in (self.weights, self.statistics))
        head = Head(self.head.weight.double(), self.head.bias.double())
        return replace(self, weights=weights, statistics=statistics, head=head)


@dataclass(frozen=True)
class Episodes:
    """Training tasks of one shape, as normalised examples; labels are the same in every task.

    `classes` says which training class each way is, and `domains` the domain of every training class, for
    methods that learn from more than the episode.
    """

    support_x: Float[Tensor, "task support *shape"]
    support_y: Int[Tensor, " support"]
    query_x: Float[Tensor, "task query *shape"]
    query_y: Int[Tensor, " query"]
    n_way: int
    classes: Int[Tensor, "task n_way"] | None = None
    domains: Int[Tensor, " class"] | None = None

    def __len__(self) -> int:
        return len(self.support_x)

    def split(self, tasks: int) -> Iterator[Episodes]:
        """The same in parts of so many tasks."""
        for start in range(0, len(self), tasks):
            part = slice(start, start + tasks)
            classes = None if self.classes is None else self.classes[part]
            yield replace(self, support_x=self.support_x[part], query_x=self.query_x[part], classes=classes)


def one_hot(labels: Int[Tensor, "*any"], n_way: int) -> Bool[Tensor, "*any {n_way}"]:
    """As torch's own, which asks the device for the labels' values, and so cannot be traced."""
    return labels[..., None] == torch.arange(n_way, device=labels.device)


def classes_seen(support_y: Int[Tensor, " support"], n_way: int) -> Bool[Tensor, " {n_way}"]:
    """Which classes have an example."""
    return one_hot(support_y, n_way).any(dim=0)


def class_weights(member: Bool[Tensor, "support n_way"], dtype: torch.dtype) -> Float[Tensor, " n_way"]:
    """Weights of the classes, from the labels `one_hot`, under which each counts as much as any other, however many
    examples it has: those of scikit-learn's class_weight "balanced". All are exactly 1 where all have as many."""
    count = member.sum(dim=0).to(dtype)
    return member.shape[0] / ((count > 0).sum() * count.clamp(min=1))


def of_length(embed: int) -> float:
    """A factor on products and squared distances of embeddings of so many numbers: 1 up to 64 of them, which are
    conv4-64's at 28×28 pixels, as in the papers.

    Both grow with the length. Of 1,024 numbers squared distances start so far apart that softmax saturates, and a step
    of gradient descent on a head goes 16 times as far.
    """
    return LENGTH / max(LENGTH, embed)


def of_ways(labels: Int[Tensor, " support"], n_way: int) -> Float[Tensor, ""]:
    """A factor on the inner rate of a head, under which a step goes as far in a task of any number of classes as in
    one of five: a class's share in a mean over the examples is smaller the more classes there are.

    It is as stable, too: the mean NLL curves by no more than the largest mean probability of a class, about 1/ways,
    times the mean of ‖z‖².
    """
    return classes_seen(labels, n_way).sum() / WAYS


def bias_of_unseen(seen: Bool[Tensor, " n_way"]) -> Float[Tensor, " n_way"]:
    """What a head's bias has besides, so that a class without an example has probability zero."""
    return torch.where(seen, 0.0, UNSEEN)


def blank_head(z: Float[Tensor, "*task _ embed"], support_y: Int[Tensor, " support"], n_way: int) -> Head:
    """A head of zeros, for all tasks, that knows which classes have an example and nothing else."""
    bias = bias_of_unseen(classes_seen(support_y, n_way)).to(z.dtype)
    return Head(z.new_zeros(n_way, z.shape[-1]), bias)


def query_loss(logits: Float[Tensor, "task query n_way"], labels: Int[Tensor, " query"]) -> Float[Tensor, ""]:
    """Mean NLL over the queries of all tasks."""
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))
