"""What a few steps of everything took: of each method, and of each single-task learner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from metaloom.baselines import BASELINES
from metaloom.learner import Learner
from metaloom.tasks import EpisodeTable

LEARNED = 3.0  # passes through the network that an example to learn from takes; one to be asked about takes one


@dataclass(frozen=True)
class Learns:
    """How a method learns a task.

    Args:
        frozen: it embeds each example once, and leaves the network as it is.
        inner_steps: that it otherwise takes.
    """

    frozen: bool
    inner_steps: int = 1

    @classmethod
    def of(cls, learner: Learner) -> Learns:
        """As this learner does."""
        return cls(learner.method.frozen, getattr(learner.method.settings, "inner_steps", 1))

    def passes(self, *tables: EpisodeTable) -> float:
        """How often an example goes through the network while these episodes are answered."""
        if self.frozen:
            return len({int(row) for table in tables for row in table.rows})
        learning = LEARNED * self.inner_steps
        return sum(len(table) * (learning * len(table.labels) + len(table.answers)) for table in tables)


@dataclass(frozen=True)
class MethodRate:
    """A method.

    Args:
        learns: how it learns a task.
        shape: of an example.
        networks: that are trained (more than one in a bank).
        step: seconds of a training step.
        passes: seconds for an example on its way through the network, when fixed episodes are answered.
    """

    learns: Learns
    shape: tuple[int, ...]
    networks: int
    step: float
    passes: float

    def answering(self, *tables: EpisodeTable) -> float:
        """Seconds to answer these episodes."""
        return self.passes * self.learns.passes(*tables)


@dataclass(frozen=True)
class SingleTaskRate:
    """A single-task learner.

    Args:
        tasks: seconds of one task (of one step of it, where a network is trained) by its number of labelled examples.
        query: seconds for a query.
    """

    tasks: Mapping[int, float]
    query: float

    def task(self, labelled: int) -> float:
        """Seconds, on the line between the two measured numbers beside it; beyond the ends as at the end."""
        sizes = sorted(self.tasks)
        return float(np.interp(labelled, sizes, [self.tasks[size] for size in sizes]))

    def scaled(self, factor: float) -> SingleTaskRate:
        """One that takes so many times as long."""
        return SingleTaskRate({size: factor * each for size, each in self.tasks.items()}, factor * self.query)


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Args:
        start: seconds until a stage's process has begun its work.
        splitting: seconds in which the stage `split` draws the episodes.
        fit: seconds of a temperature's.
        trained: by method, `pretrain` included.
        alone: by single-task learner.
        memory: bytes at the peak of a run.
    """

    start: float
    splitting: float
    fit: float
    trained: dict[str, MethodRate]
    alone: dict[str, SingleTaskRate]
    memory: int

    @classmethod
    def at_least(cls, start: float, splitting: float = 0.0, trained: dict[str, MethodRate] | None = None) -> Rates:
        """While the rest is yet to be measured: it is as if that took no time."""
        alone = {name: SingleTaskRate({1: 0.0}, 0.0) for name in BASELINES}
        return cls(start, splitting, 0.0, trained or {}, alone, 0)

    def scaled(self, factor: float) -> Rates:
        """The rates, roughly, where the network is so many times the work."""
        trained = {
            name: replace(each, step=factor * each.step, passes=factor * each.passes)
            for name, each in self.trained.items()
        }
        alone = {name: each if BASELINES[name].fit else each.scaled(factor) for name, each in self.alone.items()}
        return replace(self, trained=trained, alone=alone)
