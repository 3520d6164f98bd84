"""How much work fits into so many minutes, found by what the run would take with more of it or less."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from metaloom.config import PRETRAIN, environment_overrides, read_params
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.measuring.estimate import Asked, seconds_by_stage
from metaloom.measuring.rates import Rates, Watch, measure, starting
from metaloom.networks.engine import choose_engine
from metaloom.planning.budget import MOST_EFFORT, Budget
from metaloom.planning.plan import Plan, checked, make_plan
from metaloom.planning.work import multiplications
from metaloom.stages.split import write_splits
from metaloom.tasks.kept import KEPT

EFFORTS = tuple(round(2 ** (quarter / 4), 4) for quarter in range(-12, 4 * int(math.log2(MOST_EFFORT)) + 1))  # from 1/8
AIM = 0.95  # share of the minutes that is planned with
MARGIN = 1.1  # on the least minutes that are told: they are enough when measured again
BARELY = 0.6  # of the minutes: where all that can be bought takes less, it is said


@dataclass
class Measuring:
    """A project whose run is timed. Each width of the network is measured once; until then its rates follow from those
    of another, by their multiplications.

    Args:
        dataset: folder of the stage `prepare`.
        splits: an empty folder, for episodes.
        spent: seconds since the run began.
    """

    dataset: str
    splits: Path
    spent: Callable[[], float]
    _rates: dict[int, Rates] = field(default_factory=dict)
    _plans: dict[float, Plan] = field(default_factory=dict)

    def plan(self, budget: Budget) -> Plan:
        """Raises MetaloomError where something does not fit."""
        if budget.effort not in self._plans:
            data, overrides = Dataset.load(self.dataset), environment_overrides()
            self._plans[budget.effort] = checked(make_plan(read_params(), overrides, data, KEPT, budget))
        return self._plans[budget.effort]

    def measured(self, effort: float) -> bool:
        """Measure the width of the network that so much effort has; whether that was new."""
        plan, known = self.plan(Budget(effort=effort)), next(iter(self._rates.values()), None)
        width = plan.settings.network.width
        new = width not in self._rates
        if new:
            watch = Watch(self.spent)
            start = known.start if known else starting(watch)
            splitting = known.splitting if known else watch.quickest(lambda: self._split(plan), 1)
            choose_engine(plan.settings.engine)
            tables = self.asked(plan).test
            self._rates[width] = measure(plan.settings, self.dataset, self.splits, tables, start, splitting, watch)
        return new

    def rates(self, plan: Plan) -> Rates:
        """With the network of this plan."""
        network = plan.settings.network
        if network.width in self._rates:
            return self._rates[network.width]
        width, known = min(self._rates.items(), key=lambda each: abs(each[0] - network.width))
        shape = known.trained[PRETRAIN].learner.method.network.shape
        work, of_known = (multiplications(network.name, each, shape) for each in (network.width, width))
        return known.scaled(work / of_known)

    def _split(self, plan: Plan) -> None:
        write_splits(self.splits, plan.classes, plan.settings)

    def asked(self, plan: Plan) -> Asked:
        """The episodes."""
        return Asked.read(self.splits, plan.settings)

    def seconds(self, effort: float) -> dict[str, float]:
        """Of each stage, with so much work; a width has been measured."""
        plan = self.plan(Budget(effort=effort))
        return seconds_by_stage(plan.settings, self.rates(plan), self.asked(plan))


@contextmanager
def measuring(dataset: str, already: float = 0.0) -> Iterator[Measuring]:
    """For the project in the working directory, which `prepare` is up to date in; nothing in it changes.

    Args:
        dataset: folder of the stage `prepare`.
        already: seconds that the run has taken so far.
    """
    began = time.perf_counter() - already
    with tempfile.TemporaryDirectory(prefix="metaloom-") as folder:
        yield Measuring(dataset, Path(folder), lambda: time.perf_counter() - began)


def effort_for(minutes: float, here: Measuring) -> tuple[float, float]:
    """The greatest effort with which the whole run takes no longer, and the seconds that its rest then takes.

    Args:
        minutes: for everything, measuring included.
        here: the project.

    Raises:
        MetaloomError: not even the least effort fits; or something else does not fit the data.
    """

    here.measured(1.0)
    effort, seconds = _greatest(minutes, here)
    while here.measured(effort):  # it was guessed, and time has gone by
        effort, seconds = _greatest(minutes, here)
    if not _fits(minutes, here, seconds):
        least = (seconds + here.spent()) / 60
        raise MetaloomError(
            f"--minutes {minutes:g} is too short: with the least training a run with these data takes {least:.1f} "
            f"minutes here now. The least that works is --minutes {_above(least):g}; --minutes 0 ends the budget, "
            "which budget.yaml keeps from run to run"
        )
    return effort, seconds


def _greatest(minutes: float, here: Measuring) -> tuple[float, float]:
    """The greatest effort that fits, or the least of all, with its seconds."""
    fitting, over = 0, len(EFFORTS)
    while over - fitting > 1:
        middle = (fitting + over) // 2
        seconds = sum(here.seconds(EFFORTS[middle]).values())
        fitting, over = (middle, over) if _fits(minutes, here, seconds) else (fitting, middle)
    return EFFORTS[fitting], sum(here.seconds(EFFORTS[fitting]).values())


def _fits(minutes: float, here: Measuring, seconds: float) -> bool:
    return seconds <= AIM * 60 * minutes - here.spent()


def left_over(minutes: float, seconds: float) -> list[str]:
    """A line where the greatest effort takes far less than the minutes: what a budget cannot buy."""
    if seconds >= BARELY * 60 * minutes:
        return []
    bought = "the numbers that are `auto` are as large as a budget makes them"
    return [f"{bought}: more classes or examples, or further `methods`, are what the rest of the time could go into"]


def _above(minutes: float) -> float:
    """What is safe to ask for where a run takes so long, in halves."""
    return math.ceil(2 * MARGIN * minutes / AIM) / 2
