"""Learn tasks from their support sets: each example is embedded once, for the head, its novelty and the estimate.

Where a method leaves the network as it is, the examples of all tasks are embedded together, and the heads of tasks of
one shape solved together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.data.support import Support
from metaloom.handoff.bundle.contents import Contents, Maker, TaskCard
from metaloom.handoff.bundle.golden import answers_to
from metaloom.handoff.graphs.learning import body_of
from metaloom.handoff.graphs.novelty import Novelty
from metaloom.learner import AdaptedTask, Learner
from metaloom.learner.estimate import cross_validated, cross_validated_embeddings
from metaloom.methods import Head, TaskModel


class Learned(NamedTuple):
    """A task's model, the embeddings of its support set, and its cross-validated accuracy where it has one."""

    task: AdaptedTask
    z: Float[Tensor, "support embed"]
    estimate: dict[str, Any] | None


@dataclass(frozen=True)
class Solved:
    """A task that has been learned.

    Args:
        name: of the task.
        support: that it was learned from.
        task: the adapted model, whose classes are places in `support.labels`.
        z: embeddings of its support set.
        novelty: of the same.
        estimate: cross-validated; None where a class has a single example.
        fingerprint: of its examples and all that its bundle is made with.
    """

    name: str
    support: Support
    task: AdaptedTask
    z: Float[Tensor, "support embed"]
    novelty: Novelty
    estimate: dict[str, Any] | None
    fingerprint: str

    @property
    def card(self) -> TaskCard:
        """The bundle's words on the task: its classes are new, so its accuracy is known by cross-validation alone."""
        support = self.support
        return TaskCard(self.name, support.labels, len(support.ways), False, self.estimate, self.estimate)

    def contents(self, maker: Maker) -> Contents:
        """Contents of a bundle of this task alone, with all graphs."""
        own = self.support
        metadata = maker.describe(self.card, self.fingerprint)
        return Contents(
            self.task, self.novelty, own.examples, own.ways, own.examples, own.labels, metadata, maker.learner
        )


def solve(maker: Maker, supports: Mapping[str, Support]) -> Iterator[Solved]:
    """Learn tasks, by their names."""
    learned = _together if maker.learner.method.frozen else _one_by_one
    each = learned(maker.learner, list(supports.values()), maker.settings.seed)
    for (name, support), (task, z, estimate) in zip(supports.items(), each, strict=True):
        novelty = Novelty.of(z.double(), torch.as_tensor(support.ways), len(support.labels))
        yield Solved(name, support, task, z, novelty, estimate, maker.fingerprint(support))


def answers(solved: Solved, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and novelty of some of its support examples, by torch, without embedding them again."""
    return answers_to(solved.task.model.head, solved.novelty, solved.z[torch.as_tensor(rows)].double())


def _one_by_one(learner: Learner, supports: Sequence[Support], seed: int) -> Iterator[Learned]:
    for support in supports:
        task = learner.adapt(support.examples, support.ways)
        with torch.no_grad():
            x = task.encoding(torch.as_tensor(support.examples))
            z, _ = task.model.network(task.model.weights, x, task.model.statistics)
        yield Learned(task, z, cross_validated(learner, support.examples, support.ways, seed))


def _together(learner: Learner, supports: Sequence[Support], seed: int) -> Iterator[Learned]:
    if not supports:
        return
    examples = np.concatenate([support.examples for support in supports])
    sizes = [len(support.ways) for support in supports]
    parts = learner.embed(torch.as_tensor(examples), np.arange(len(examples))).split(sizes)
    heads, body = _heads(learner, supports, parts), body_of(learner).model
    for support, z, head in zip(supports, parts, heads, strict=True):
        model = TaskModel(body.network, body.weights, body.statistics, head)
        task = AdaptedTask(model, learner.encoding, list(range(len(support.labels))))
        yield Learned(task, z, cross_validated_embeddings(learner, z, support.ways, seed))


def _heads(learner: Learner, supports: Sequence[Support], parts: Sequence[Tensor]) -> list[Head]:
    """Heads of tasks with the same ways, fitted at once; in float64, as a head is little work."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, support in enumerate(supports):
        alike.setdefault(tuple(support.ways.tolist()), []).append(place)
    heads: dict[int, Head] = {}
    for ways, places in alike.items():
        z, y, n_way = torch.stack([parts[place] for place in places]).double(), torch.tensor(ways), max(ways) + 1
        with torch.no_grad():
            head = learner.method.head(learner.params, z, y, n_way)
        factor = 1 / learner.temperature.of_task(np.asarray(ways), n_way)
        weight, bias = ((each * factor).float() for each in head)
        stacked = zip(weight.expand(len(places), -1, -1), bias.expand(len(places), -1), strict=True)
        heads |= {place: Head(*own) for place, own in zip(places, stacked, strict=True)}
    return [heads[place] for place in range(len(supports))]
