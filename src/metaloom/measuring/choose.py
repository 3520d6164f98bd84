"""How much work fits into so many minutes, found by what the run would take with more of it or less."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from metaloom.config import environment_overrides, read_params
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.measuring.estimate import Asked, seconds_by_stage
from metaloom.measuring.rates import Rates, measure, starting
from metaloom.networks.engine import choose_engine
from metaloom.planning.budget import Budget
from metaloom.planning.plan import Plan, checked, make_plan
from metaloom.stages.split import write_splits
from metaloom.tasks.kept import KEPT

EFFORTS = tuple(2 ** (quarter / 4) for quarter in range(-12, 17))  # 1/8 to 16
AIM = 0.95  # share of the minutes that is planned with
BARELY = 0.6  # of the minutes: where all that can be bought takes less, it is said


@dataclass
class Measuring:
    """A project whose run is timed; each width of the network is measured once.

    Args:
        dataset: folder of the stage `prepare`.
        splits: an empty folder, for episodes.
    """

    dataset: str
    splits: Path
    _rates: dict[int, Rates] = field(default_factory=dict)
    _plans: dict[float, Plan] = field(default_factory=dict)

    def plan(self, budget: Budget) -> Plan:
        """Raises MetaloomError where something does not fit."""
        if budget.effort not in self._plans:
            data, overrides = Dataset.load(self.dataset), environment_overrides()
            self._plans[budget.effort] = checked(make_plan(read_params(), overrides, data, KEPT, budget))
        return self._plans[budget.effort]

    def rates(self, plan: Plan) -> Rates:
        """Measured with the network of this plan."""
        width, known = plan.settings.network.width, next(iter(self._rates.values()), None)
        if width not in self._rates:
            if known is None:
                write_splits(self.splits, plan.classes, plan.settings)
            choose_engine(plan.settings.engine)
            tables = self.asked(plan).test
            start = known.start if known else starting()
            self._rates[width] = measure(plan.settings, self.dataset, self.splits, tables, start)
        return self._rates[width]

    def asked(self, plan: Plan) -> Asked:
        """The episodes."""
        return Asked.read(self.splits, plan.settings)

    def seconds(self, effort: float) -> dict[str, float]:
        """Of each stage, with so much work."""
        plan = self.plan(Budget(effort=effort))
        return seconds_by_stage(plan.settings, self.rates(plan), self.asked(plan))


@contextmanager
def measuring(dataset: str) -> Iterator[Measuring]:
    """For the project in the working directory, which `prepare` is up to date in; nothing in it changes."""
    with tempfile.TemporaryDirectory(prefix="metaloom-") as folder:
        yield Measuring(dataset, Path(folder))


def effort_for(minutes: float, here: Measuring, began: float) -> tuple[float, float]:
    """The greatest effort with which the whole run takes no longer, and the seconds that it then takes.

    Args:
        minutes: for everything, measuring included.
        here: the project.
        began: `time.perf_counter()` when the run began.

    Raises:
        MetaloomError: not even the least effort fits; or something else does not fit the data.
    """
    found, fitting, over = None, -1, len(EFFORTS)
    while over - fitting > 1:
        middle = (fitting + over) // 2
        seconds = sum(here.seconds(EFFORTS[middle]).values())
        if seconds <= AIM * 60 * minutes - (time.perf_counter() - began):
            fitting, found = middle, seconds
        else:
            over = middle
    if found is None:
        least = sum(here.seconds(EFFORTS[0]).values()) + time.perf_counter() - began
        raise MetaloomError(
            f"--minutes {minutes:g} is too short: with the least training a run with these data takes "
            f"{least / 60:.1f} minutes here. The least that works is --minutes {_above(least / AIM / 60):g}"
        )
    return EFFORTS[fitting], found


def _above(minutes: float) -> float:
    """A little more, in halves."""
    return int(2 * minutes + 1) / 2 + (0.5 if minutes > 1 else 0.0)
