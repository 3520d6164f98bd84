"""How much work fits into so many minutes, found by what the run would take with more of it or less."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from metaloom.config import PRETRAIN, Settings, auto_keys, environment_overrides, read_params
from metaloom.config.methods import MethodName
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.measuring.estimate import Asked, seconds_by_stage
from metaloom.measuring.keeping import Kept, Question
from metaloom.measuring.rates import Learns, MethodRate, Rates
from metaloom.measuring.timing import Stopwatch, measure, starting
from metaloom.networks.engine import choose_engine
from metaloom.planning.budget import MOST_EFFORT, NO_BUDGET, Budget
from metaloom.planning.plan import Plan, checked, make_plan
from metaloom.planning.work import multiplications
from metaloom.stages.split import write_splits
from metaloom.tasks.kept import SPLITS_FILE

EFFORTS = tuple(round(2 ** (quarter / 4), 4) for quarter in range(-12, 4 * int(math.log2(MOST_EFFORT)) + 1))  # from 1/8
AIM = 0.95  # share of the minutes that is planned with
MARGIN = 1.1  # on the least minutes that are told: they are enough when measured again
ENOUGH = 0.5  # effort: a further method is trained where all have as much; see RESULTS.md
FIRST = ("protonet", "maml")  # that are trained, then the others, those first that take least
AGAIN = 0.3  # minutes until what was measured before is read and chosen from
BARELY = 0.6  # of the minutes: where all that can be bought takes less, it is said

END = "`--minutes 0` runs without a budget"


@dataclass
class Measuring:
    """A project whose run is timed. Each width of the network is measured once; until then its rates follow from those
    of another, by their multiplications.

    Args:
        dataset: folder of the stage `embed`.
        splits: an empty folder, for episodes.
        spent: seconds since the run began.
        kept: what was measured here not long ago; what is measured now is added.
        minutes: that a run may take; once it is known that they are too few, no more is measured. 0: any number.
    """

    dataset: str
    splits: Path
    spent: Callable[[], float]
    kept: Kept = field(default_factory=Kept)
    minutes: float = 0.0
    _watch: Stopwatch = field(init=False)
    _rates: dict[int, Rates] = field(default_factory=dict)
    _plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._watch = Stopwatch(self.spent)

    def plan(self, budget: Budget) -> Plan:
        """Raises MetaloomError where something does not fit."""
        key = budget.effort, budget.left_out
        if key not in self._plans:
            data, overrides = Dataset.load(self.dataset), environment_overrides()
            self._plans[key] = checked(make_plan(read_params(), overrides, data, SPLITS_FILE, budget))
        return self._plans[key]

    def measured(self, effort: float) -> bool:
        """Measure the width of the network that so much effort has; whether that was new."""
        plan, known = self.plan(Budget(effort=effort)), next(iter(self._rates.values()), None)
        width = plan.settings.network.width
        if width in self._rates:
            return False
        splitting = known.splitting if known else self._watch.quickest(lambda: self._split(plan), 1)
        if width not in self.kept.rates:
            self.kept.add(width, self._now(plan, known.start if known else None, splitting))
        self._rates[width] = self.kept.rates[width]
        return True

    def _now(self, plan: Plan, start: float | None, splitting: float) -> Rates:
        watch, settings = self._watch, plan.settings
        choose_engine(settings.engine)  # before it: processes that are started hear of it
        if start is None:
            start = starting(watch)
            idle = MethodRate(Learns(frozen=True), self._shape(), 1, 0.0, 0.0)
            self._check(settings, Rates.at_least(start, splitting, dict.fromkeys((*settings.methods, PRETRAIN), idle)))
        tables, check = self.asked(plan).test, partial(self._check, settings)
        return measure(settings, self.dataset, self.splits, tables, start, splitting, watch, check)

    def _shape(self) -> tuple[int, ...]:
        """Of an example, as a network takes it."""
        data = Dataset.load(self.dataset)
        return data.kind.fitted(data.examples[: data.kind.enough]).shape

    def _check(self, settings: Settings, rates: Rates) -> None:
        """Whether the minutes can still be enough, where these rates are the least that a run takes."""
        if not self.minutes or self._rates:
            return
        self._rates[settings.network.width] = rates
        try:
            least = Budget(effort=EFFORTS[0], left_out=tuple(self.spare()))
            seconds = sum(self.seconds(least).values()) + self.spent()
        finally:
            self._rates.clear()
        if seconds > AIM * 60 * self.minutes:
            self.kept.bound(seconds)
            refuse_bounded(self.minutes, seconds)

    def rates(self, plan: Plan) -> Rates:
        """Rates that were measured with this plan's network."""
        network = plan.settings.network
        if network.width in self._rates:
            return self._rates[network.width]
        width, known = min(self._rates.items(), key=lambda each: abs(each[0] - network.width))
        shape = known.trained[PRETRAIN].shape
        work, of_known = (multiplications(network.name, each, shape) for each in (network.width, width))
        return known.scaled(work / of_known)

    def _split(self, plan: Plan) -> None:
        write_splits(self.splits, plan.classes, plan.settings)

    def asked(self, plan: Plan) -> Asked:
        """The episodes."""
        return Asked.read(self.splits, plan.settings)

    def spare(self) -> Sequence[MethodName]:
        """The methods that may be left out, first those that go first; a width has been measured.

        Steps that the user wrote are taken, and one method at least is trained.
        """
        plan, auto = self.plan(NO_BUDGET), auto_keys(read_params())
        settings, trained = plan.settings, self.rates(plan).trained

        def place(name: str) -> tuple[int, float]:
            cost = trained[name].networks * settings.method(name).steps * trained[name].step
            return FIRST.index(name) if name in FIRST else len(FIRST), cost

        order = sorted(set(settings.methods), key=place, reverse=True)
        spare: list[MethodName] = [name for name in order if f"{name}.steps" in auto]
        return spare if len(spare) < len(order) else spare[:-1]

    def seconds(self, budget: Budget) -> dict[str, float]:
        """How many seconds each stage takes under this budget, whose network width has been measured already."""
        plan = self.plan(budget)
        return seconds_by_stage(plan.settings, self.rates(plan), self.asked(plan))


@contextmanager
def measuring(dataset: str, question: Question, already: float = 0.0) -> Iterator[Measuring]:
    """For the project in the working directory, which `prepare` and `embed` are up to date in.

    What is measured is kept for a while; nothing else in the project changes.

    Args:
        dataset: folder of the stage `embed`.
        question: what is measured for.
        already: seconds that the run has taken so far.
    """
    began = time.perf_counter() - already
    with tempfile.TemporaryDirectory(prefix="metaloom-") as folder:
        yield Measuring(dataset, Path(folder), lambda: time.perf_counter() - began, Kept.read(question))


def refuse_bounded(minutes: float, seconds: float) -> NoReturn:
    """Raises MetaloomError: a run takes more than these seconds, and how many is not known."""
    raise MetaloomError(
        f"--minutes {minutes:g} is too short: even with the least training a run with these data takes more than "
        f"{seconds / 60:.1f} minutes here now. `metaloom plan` measures the rest of it and says how long it takes; "
        f"{END}"
    )


def chosen(asked: Budget, here: Measuring) -> tuple[Budget, float]:
    """The budget with as many methods and as great an effort as the whole run has time for, and the seconds that its
    rest then takes.

    Args:
        asked: whose minutes are for everything, measuring included.
        here: the project.

    Raises:
        MetaloomError: not even the least effort fits; or something else does not fit the data.
    """
    assert asked.minutes
    if here.kept.more_than > AIM * 60 * asked.minutes:
        refuse_bounded(asked.minutes, here.kept.more_than)
    here.minutes = asked.minutes
    here.measured(1.0)
    found, seconds = _most(asked, asked.minutes, here)
    while here.measured(found.effort):  # it was guessed, and time has gone by
        found, seconds = _most(asked, asked.minutes, here)
    if not _fits(asked.minutes, here, seconds):
        least, spent = seconds / 60, here.spent() / 60
        enough = _above(least + AGAIN)
        told = (
            f"what it found is kept, so that the least that works now is --minutes {enough:g}"
            if enough > asked.minutes
            else "what it found is kept: the same command works now"
        )
        raise MetaloomError(
            f"--minutes {asked.minutes:g} is too short: with the least training a run with these data takes "
            f"{least:.1f} minutes here now, and measuring took {spent:.1f}; {told}. {END}"
        )
    return found, seconds


def _most(asked: Budget, minutes: float, here: Measuring) -> tuple[Budget, float]:
    """All methods if they then have ENOUGH effort; else the first ones with no more than that.

    So more minutes never leave out a method that fewer had, or train it for less.
    """
    spare, few = here.spare(), [effort for effort in EFFORTS if effort <= ENOUGH]
    found, seconds = _greatest(asked, minutes, here, EFFORTS)
    while found.effort < ENOUGH and len(found.left_out) < len(spare):
        fewer = asked.model_copy(update={"left_out": tuple(spare[: len(found.left_out) + 1])})
        found, seconds = _greatest(fewer, minutes, here, few)
    return found, seconds


def _greatest(asked: Budget, minutes: float, here: Measuring, efforts: Sequence[float]) -> tuple[Budget, float]:
    """The budget with the greatest of the efforts that fits, or with the least of all; and its seconds."""
    budgets = [asked.model_copy(update={"effort": effort}) for effort in efforts]
    fitting, over = 0, len(budgets)
    while over - fitting > 1:
        middle = (fitting + over) // 2
        seconds = sum(here.seconds(budgets[middle]).values())
        fitting, over = (middle, over) if _fits(minutes, here, seconds) else (fitting, middle)
    return budgets[fitting], sum(here.seconds(budgets[fitting]).values())


def _fits(minutes: float, here: Measuring, seconds: float) -> bool:
    return seconds <= AIM * 60 * minutes - here.spent()


def left_out(found: Budget, here: Measuring) -> list[str]:
    """A line where methods are left out: why, and from how many minutes on there is one more."""
    if not found.left_out:
        return []
    further = Budget(effort=ENOUGH, left_out=found.left_out[:-1])
    minutes = _above((sum(here.seconds(further).values()) + here.spent()) / 60)
    return [
        f"left out: {', '.join(found.left_out)}, so that the others have up to {ENOUGH:.0%} of their usual training; "
        f"--minutes {minutes:g} has time for {found.left_out[-1]}"
    ]


def left_over(minutes: float, seconds: float) -> list[str]:
    """A line where the greatest effort takes far less than the minutes: what a budget cannot buy."""
    if seconds >= BARELY * 60 * minutes:
        return []
    bought = "the numbers that are `auto` are as large as a budget makes them"
    return [f"{bought}: more classes or examples, or further `methods`, are what the rest of the time could go into"]


def _above(minutes: float) -> float:
    """What is safe to ask for where a run takes so long, in halves."""
    return math.ceil(2 * MARGIN * minutes / AIM) / 2
