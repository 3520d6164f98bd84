"""What a method is: how it adapts, and what it minimises. Nothing else differs between methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metaloom.config import MethodSettings
from metaloom.networks import Network, Tensors

TRAINING = "training."  # begins the names of weights that exist only while training
ROUTER = "router."  # begins the names of statistics that choose between the members of a bank
UNSEEN = -1e9  # the logit of a class without an example: its probability is exactly zero
TASKS_AT_A_TIME = 8  # that are adapted together: enough to share the overhead of a step, few enough for memory


class Head(NamedTuple):
    """A linear classifier over embeddings, or one for each task."""

    weight: Float[Tensor, "*task n_way embed"]
    bias: Float[Tensor, "*task n_way"]

    def logits(self, z: Float[Tensor, "*task item embed"]) -> Float[Tensor, "*task item n_way"]:
        """Scores whose softmax are probabilities."""
        return z @ self.weight.mT + self.bias.unsqueeze(-2)


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
        """Without the weights that exist only while training."""
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
    """Training tasks of one shape, as normalised images; labels are the same in every task.

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


class Method(ABC):
    """A meta-learner over a shared network."""

    momentum = 0.1  # share of a step's statistics in the running ones
    looks: ClassVar[bool] = False  # whether an answer may be the mean over several looks at an example

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
        """Whether a task changes the head alone: then images are embedded once for any number of tasks."""
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
        return torch.optim.Adam(leaves, lr=self.settings.learning_rate)

    def chunks(self, episodes: Episodes) -> Iterator[Episodes]:
        """The parts of a meta-batch that go backward one at a time, so that memory does not grow with it."""
        return episodes.split(TASKS_AT_A_TIME)

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

    def moved(self, params: Params, of_tasks: Tensors) -> Params:
        """The parameters with their running statistics some way towards those of a step's tasks."""
        running = params.statistics.items()
        towards = {k: v.lerp(of_tasks[k].detach().mean(dim=0), self.momentum) for k, v in running}
        return replace(params, statistics=towards)


def one_hot(labels: Int[Tensor, "*any"], n_way: int) -> Bool[Tensor, "*any {n_way}"]:
    """As torch's own, which asks the device for the labels' values, and so cannot be traced."""
    return labels[..., None] == torch.arange(n_way, device=labels.device)


def classes_seen(support_y: Int[Tensor, " support"], n_way: int) -> Bool[Tensor, " {n_way}"]:
    """Which classes have an example."""
    return one_hot(support_y, n_way).any(dim=0)


def bias_of_unseen(seen: Bool[Tensor, " n_way"]) -> Float[Tensor, " n_way"]:
    """What a head's bias has besides, so that a class without an example has probability zero."""
    return torch.where(seen, 0.0, UNSEEN)


def blank_head(z: Float[Tensor, "*task support embed"], support_y: Int[Tensor, " support"], n_way: int) -> Head:
    """A head of zeros, for all tasks, that knows which classes have an example and nothing else."""
    bias = bias_of_unseen(classes_seen(support_y, n_way)).to(z.dtype)
    return Head(z.new_zeros(n_way, z.shape[-1]), bias)


def query_loss(logits: Float[Tensor, "task query n_way"], labels: Int[Tensor, " query"]) -> Float[Tensor, ""]:
    """Mean NLL over the queries of all tasks."""
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))


class EmbeddingMethod(Method):
    """A method that adapts its head alone, in closed form: images are embedded once, for any number of tasks."""

    takes_turns = False  # whether in training every example takes its turn in the support set

    @property
    def frozen(self) -> bool:
        return True

    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        head = self.head(params, self.embed(params, support_x), support_y, n_way)
        return TaskModel(self.network, params.weights, params.statistics, head)

    def loss(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], Params]:
        """As for any method, but all images of a task pass the network together, under their own statistics.

        Where examples take turns, the images of support and query stand class by class.
        """
        images = torch.cat([episodes.support_x, episodes.query_x], dim=1)
        z, statistics = self.network(params.weights, images, generator=generator)
        n_support = episodes.support_x.shape[1]
        support_z, query_z = z[:, :n_support], z[:, n_support:]
        if self.takes_turns:
            support_z, query_z = every_turn(support_z, query_z, episodes.n_way)
        head = self.head(params, support_z, episodes.support_y, episodes.n_way)
        loss = query_loss(head.logits(query_z), episodes.query_y)
        return loss, self.moved(params, statistics)


def every_turn(
    support_z: Float[Tensor, "task support embed"], query_z: Float[Tensor, "task query embed"], n_way: int
) -> tuple[Float[Tensor, "turn support embed"], Float[Tensor, "turn query embed"]]:
    """As many tasks of each as it has examples a class: all of them are support as often as the others."""
    of_way = torch.cat([z.unflatten(1, (n_way, -1)) for z in (support_z, query_z)], dim=2)
    turns = torch.cat([of_way.roll(turn, dims=2) for turn in range(of_way.shape[2])])
    shots = support_z.shape[1] // n_way
    return turns[:, :, :shots].flatten(1, 2), turns[:, :, shots:].flatten(1, 2)
