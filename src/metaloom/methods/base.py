"""What a method is: how it adapts, and what it minimises. Nothing else differs between methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import MethodSettings
from metaloom.networks import Network, Tensors


class Head(NamedTuple):
    """A linear classifier over embeddings."""

    weight: Float[Tensor, "n_way embed"]
    bias: Float[Tensor, " n_way"]


@dataclass(frozen=True)
class Params:
    """Everything a method has learned.

    Args:
        weights: what the optimiser changes; the network's, and a method's own beside them.
        statistics: batch norm's running means and variances, for methods that share them between tasks.
    """

    weights: Tensors
    statistics: Tensors

    def detached(self) -> Params:
        """The same numbers as new leaves without a graph."""
        return self._each(lambda tensor: tensor.detach().clone())

    def to(self, device: torch.device | str) -> Params:
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Params:
        groups = (self.weights, self.statistics)
        return Params(*({name: change(tensor) for name, tensor in group.items()} for group in groups))


@dataclass(frozen=True)
class TaskModel:
    """A network and a linear head for one task; every statistic is fixed, so no query sees another."""

    network: Network
    weights: Tensors
    statistics: Tensors
    head: Head

    def logits(self, x: Float[Tensor, "query channel height width"]) -> Float[Tensor, "query n_way"]:
        embedding, _ = self.network(self.weights, x, self.statistics)
        return F.linear(embedding, *self.head)


@dataclass(frozen=True)
class Episodes:
    """Training tasks of one shape, as normalised images; labels are the same in every task."""

    support_x: Float[Tensor, "task support channel height width"]
    support_y: Int[Tensor, " support"]
    query_x: Float[Tensor, "task query channel height width"]
    query_y: Int[Tensor, " query"]
    n_way: int

    def __len__(self) -> int:
        return len(self.support_x)

    def one_by_one(self) -> Iterator[Episodes]:
        for task in range(len(self)):
            part = slice(task, task + 1)
            yield replace(self, support_x=self.support_x[part], query_x=self.query_x[part])


class Method(ABC):
    """A meta-learner over a shared network."""

    def __init__(self, network: Network, settings: MethodSettings) -> None:
        self.network = network
        self.settings = settings

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters on the generator's device."""
        return Params(self.network.init(generator), {})

    @abstractmethod
    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, "support channel height width"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        """The model of one task: pure, and differentiable with respect to `params` where autograd records."""

    def chunks(self, episodes: Episodes) -> Iterator[Episodes]:
        """The parts of a meta-batch that go backward one at a time: one task, so memory does not grow."""
        return episodes.one_by_one()

    def loss(self, params: Params, episodes: Episodes) -> tuple[Float[Tensor, ""], Params]:
        """Mean NLL of the queries after adaptation, and the parameters with their statistics moved on."""
        losses = [
            F.cross_entropy(
                self.adapt(params, support_x, episodes.support_y, episodes.n_way).logits(query_x),
                episodes.query_y,
            )
            for support_x, query_x in zip(episodes.support_x, episodes.query_x, strict=True)
        ]
        return torch.stack(losses).mean(), params


class EmbeddingMethod(Method):
    """A method that adapts its head alone, in closed form: images are embedded once, for any number of tasks."""

    momentum = 0.1  # share of a step's statistics in the running ones

    @abstractmethod
    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        """The head for one task from its support embeddings."""

    def init(self, generator: torch.Generator) -> Params:
        weights = self.network.init(generator)
        size = self.network.image_size
        blank = torch.zeros(2, self.network.channels, size, size, device=generator.device)
        _, statistics = self.network(weights, blank)
        start = {k: torch.full_like(v, float(k.endswith("variance"))) for k, v in statistics.items()}
        return Params(weights, start)

    def embed(self, params: Params, x: Float[Tensor, "item channel height width"]) -> Float[Tensor, "item embed"]:
        return self.network(params.weights, x, params.statistics)[0]

    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, "support channel height width"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        head = self.head(params, self.embed(params, support_x), support_y, n_way)
        return TaskModel(self.network, params.weights, params.statistics, head)

    def chunks(self, episodes: Episodes) -> Iterator[Episodes]:
        yield episodes

    def loss(self, params: Params, episodes: Episodes) -> tuple[Float[Tensor, ""], Params]:
        """As for any method, but all images pass the network together, under their common statistics."""
        tasks, support = episodes.support_x.shape[:2]
        images = torch.cat([episodes.support_x, episodes.query_x], dim=1).flatten(0, 1)
        embedding, statistics = self.network(params.weights, images)
        losses = []
        for z in embedding.unflatten(0, (tasks, -1)):
            head = self.head(params, z[:support], episodes.support_y, episodes.n_way)
            losses.append(F.cross_entropy(F.linear(z[support:], *head), episodes.query_y))
        running = {k: v.lerp(statistics[k].detach(), self.momentum) for k, v in params.statistics.items()}
        return torch.stack(losses).mean(), replace(params, statistics=running)
