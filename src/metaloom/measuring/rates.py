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
class MethodRate:
    """A method.

    Args:
        learner: after a few steps.
        networks: that are trained (more than one in a bank).
        step: seconds of a training step.
        passes: seconds for an example on its way through the network, when fixed episodes are answered.
    """

    learner: Learner
    networks: int
    step: float
    passes: float

    def answering(self, *tables: EpisodeTable) -> float:
        """Seconds to answer these episodes."""
        return self.passes * passes_of(self.learner, *tables)


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

    def scaled(self, factor: float) -> Rates:
        """The rates, roughly, where the network is so many times the work."""
        trained = {
            name: replace(each, step=factor * each.step, passes=factor * each.passes)
            for name, each in self.trained.items()
        }
        alone = {name: each if BASELINES[name].fit else each.scaled(factor) for name, each in self.alone.items()}
        return replace(self, trained=trained, alone=alone)


def passes_of(learner: Learner, *tables: EpisodeTable) -> float:
    """How often an example goes through the network while these episodes are answered."""
    if learner.method.frozen:
        return len({int(row) for table in tables for row in table.rows})
    learning = LEARNED * getattr(learner.method.settings, "inner_steps", 1)
    return sum(len(table) * (learning * len(table.labels) + len(table.answers)) for table in tables)
