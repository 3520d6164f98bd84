"""How much work fits into so many minutes, found by what the run would take with more of it or less."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from metaloom.config import environment_overrides, read_params
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.measuring.estimate import Asked, seconds_by_stage
from metaloom.measuring.rates import Rates, Watch, measure, starting
from metaloom.networks.engine import choose_engine
from metaloom.planning.budget import Budget
from metaloom.planning.plan import Plan, checked, make_plan
from metaloom.stages.split import write_splits
from metaloom.tasks.kept import KEPT

EFFORTS = tuple(round(2 ** (quarter / 4), 4) for quarter in range(-12, 17))  # 1/8 to 16
AIM = 0.95  # share of the minutes that is planned with
MARGIN = 1.1  # on the least minutes that are told: they are enough when measured again
BARELY = 0.6  # of the minutes: where all that can be bought takes less, it is said


@dataclass
class Measuring:
    """A project whose run is timed; each width of the network is measured once.

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

    def rates(self, plan: Plan) -> Rates:
        """Measured with the network of this plan."""
        width, known = plan.settings.network.width, next(iter(self._rates.values()), None)
        if width not in self._rates:
            watch = Watch(self.spent)
            start = known.start if known else starting(watch)
            splitting = known.splitting if known else watch.quickest(lambda: self._split(plan), 1)
            choose_engine(plan.settings.engine)
            tables = self.asked(plan).test
            self._rates[width] = measure(plan.settings, self.dataset, self.splits, tables, start, splitting, watch)
        return self._rates[width]

    def _split(self, plan: Plan) -> None:
        write_splits(self.splits, plan.classes, plan.settings)

    def asked(self, plan: Plan) -> Asked:
        """The episodes."""
        return Asked.read(self.splits, plan.settings)

    def seconds(self, effort: float) -> dict[str, float]:
        """Of each stage, with so much work."""
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

    def seconds(place: int) -> float:
        return sum(here.seconds(EFFORTS[place]).values())

    def fits(place: int) -> bool:
        return seconds(place) <= AIM * 60 * minutes - here.spent()

    fitting, over, middle = -1, len(EFFORTS), EFFORTS.index(1.0)
    while over - fitting > 1:
        fitting, over = (middle, over) if fits(middle) else (fitting, middle)
        middle = (fitting + over) // 2
    # Time has gone by since that effort was looked at, if another width was measured after it.
    while fitting >= 0 and not fits(fitting):
        fitting -= 1
    if fitting < 0:
        least = seconds(0) + here.spent()
        raise MetaloomError(
            f"--minutes {minutes:g} is too short: with the least training a run with these data takes "
            f"{least / 60:.1f} minutes here. The least that works is --minutes {_above(least / 60):g}"
        )
    return EFFORTS[fitting], seconds(fitting)


def _above(minutes: float) -> float:
    """What is safe to ask for where a run takes so long, in halves."""
    return math.ceil(2 * MARGIN * minutes / AIM) / 2
