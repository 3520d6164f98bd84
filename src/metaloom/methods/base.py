"""What a method is: how it adapts, and what it minimises. Nothing else differs between methods."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import MethodSettings
from metaloom.methods.model import Episodes, Head, Params, TaskModel, query_loss
from metaloom.networks import Network, Tensors
from metaloom.system.optimisers import Adam

TASKS_AT_A_TIME = 8  # that are adapted together on a CPU: enough to share the overhead of a step, few enough for memory


class Method(ABC):
    """A meta-learner over a shared network."""

    momentum = 0.1  # share of a step's statistics in the running ones
    test_augmentation: ClassVar[bool] = False  # whether an answer may be the mean over several views of an example

    def __init__(self, network: Network, settings: MethodSettings) -> None:
        self.network = network
        self.settings = settings

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters on the generator's device."""
        weights = self.network.init(generator)
        return Params(weights, self.fresh_statistics(weights))

    def fresh_statistics(self, weights: Tensors) -> Tensors:
        """Means of zero and variances of one, for every norm of the network; none unless they are batch norms."""
        if self.network.norm != "batch":
            return {}
        blank = torch.zeros(2, *self.network.shape, device=next(iter(weights.values())).device)
        _, statistics = self.network(weights, blank)
        return {k: torch.full_like(v, float(k.endswith("variance"))) for k, v in statistics.items()}

    def training_weights(self, generator: torch.Generator, classes: int) -> Tensors:
        """Further weights for training on so many classes; they are optimised and checkpointed, but not kept.

        Their names begin with `TRAINING`.
        """
        return {}

    @abstractmethod
    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        """The model of one task, or of several whose labels are the same.

        Pure, and differentiable with respect to `params` where autograd records.
        """

    @property
    def frozen(self) -> bool:
        """Whether a task changes the head alone: then examples are embedded once for any number of tasks."""
        return False

    def embed(self, params: Params, x: Float[Tensor, ...]) -> Float[Tensor, "*task item embed"]:
        """The shared network's embeddings, before any task; under fixed statistics, so that none sees another."""
        return self.network(params.weights, x, params.statistics)[0]

    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        """The head for a task from its support embeddings, or one for each of several, where the network is
        `frozen`. A class without an example has probability zero."""
        raise NotImplementedError(f"{type(self).__name__} changes the network for a task")

    def optimiser(self, leaves: list[Tensor]) -> torch.optim.Optimizer:
        """What changes the weights after each step."""
        return Adam(leaves, capturable=leaves[0].is_cuda, **rate_for(leaves, self.settings.learning_rate))

    def chunks(self, episodes: Episodes, tasks: int = TASKS_AT_A_TIME) -> Iterator[Episodes]:
        """The parts of a meta-batch that go backward one at a time, so that memory does not grow with it."""
        return episodes.split(tasks)

    @property
    def anneals(self) -> bool:
        """Whether the loss changes with `progress`."""
        return False

    def loss(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], Params]:
        """Mean NLL of the queries after adaptation, and the parameters with their statistics moved on.

        Args:
            params: where autograd records.
            episodes: tasks of one shape.
            generator: for dropout; None drops nothing.
            progress: share of the training budget that is spent.
        """
        model = self.adapt(params, episodes.support_x, episodes.support_y, episodes.n_way)
        return query_loss(model.logits(episodes.query_x, generator), episodes.query_y), params

    def chance(self, classes: int) -> float:
        """The loss of one that guesses, where training has so many classes; NaN where that is not known."""
        return math.log(self.settings.n_way)

    def moved(self, params: Params, of_tasks: Tensors) -> Params:
        """The parameters with their running statistics some way towards those of a step's tasks."""
        running = params.statistics.items()
        towards = {k: v.lerp(of_tasks[k].detach().mean(dim=0), self.momentum) for k, v in running}
        return replace(params, statistics=towards)


def rate_for(leaves: list[Tensor], rate: float) -> dict[str, Any]:
    """An optimiser's learning rate; on CUDA a tensor, with one kernel for all weights, so that a graph can hold it."""
    return {"lr": torch.tensor(rate, device=leaves[0].device), "fused": True} if leaves[0].is_cuda else {"lr": rate}


@runtime_checkable
class Weighing(Protocol):
    """A method for which an example may count more or less than once."""

    def adapt_weighted(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
        weights: Float[Tensor, " support"],
    ) -> TaskModel:
        """`Method.adapt` to a support set in which each example stands as often as its weight says.

        Every class has an example with a weight above 0.
        """
        ...
