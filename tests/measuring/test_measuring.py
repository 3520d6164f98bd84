"""How much work fits into so many minutes."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from projects import REPO

from metaloom.config import OVERRIDES, PARAMS, load_settings
from metaloom.config.methods import MethodName
from metaloom.errors import MetaloomError
from metaloom.measuring import __main__ as measuring_main
from metaloom.measuring import choose
from metaloom.measuring.choose import AIM, EFFORTS, ENOUGH, Measuring, chosen, left_out, left_over
from metaloom.measuring.estimate import Asked
from metaloom.measuring.keeping import MEASURED, Kept, Question
from metaloom.measuring.rates import Learns, MethodRate, Rates, SingleTaskRate
from metaloom.planning.budget import Budget, read_budget
from metaloom.planning.plan import Plan
from metaloom.system.lock import STATE


class Linear(Measuring):
    """A project whose run takes a minute, and another one for each unit of effort; `spent` seconds are gone."""

    def __init__(self, spent: float = 0.0) -> None:
        super().__init__("", Path(), lambda: spent)

    def measured(self, effort: float) -> bool:
        return False

    def spare(self) -> list[MethodName]:
        return []

    def seconds(self, budget: Budget) -> dict[str, float]:
        return {"fixed": 60.0, "training": 60.0 * budget.effort}


class Bounded(Linear):
    """The same, where the user wrote every number: more effort changes nothing."""

    def seconds(self, budget: Budget) -> dict[str, float]:
        return {"fixed": 120.0}


class Several(Linear):
    """The same, where three methods are trained, which take a minute each at effort 1."""

    def spare(self) -> list[MethodName]:
        return ["bank", "maml"]

    def seconds(self, budget: Budget) -> dict[str, float]:
        return {"fixed": 60.0, "training": 60.0 * budget.effort * (3 - len(budget.left_out))}


class Wider(Linear):
    """The same, where more effort than 1 has another width. To measure a width takes half a minute, and the wider one
    turns out to be twice as slow as it was guessed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = set[bool]()
        self.spent = lambda: 30.0 * len(self.seen)

    def measured(self, effort: float) -> bool:
        new = (effort > 1) not in self.seen
        self.seen.add(effort > 1)
        return new

    def seconds(self, budget: Budget) -> dict[str, float]:
        slow = 2 if budget.effort > 1 and True in self.seen else 1
        return {"fixed": 60.0, "training": 60.0 * budget.effort * slow}


def effort_for(minutes: float, here: Measuring) -> tuple[float, float]:
    found, seconds = chosen(Budget(minutes=minutes), here)
    return found.effort, seconds


@pytest.mark.parametrize("minutes", [2, 3, 6, 10])
def test_the_greatest_effort_that_fits_is_chosen(minutes):
    effort, seconds = effort_for(minutes, Linear())
    fitting = [each for each in EFFORTS if 1 + each <= AIM * minutes]
    assert effort == max(fitting) and seconds == pytest.approx(60 * (1 + effort))


@pytest.mark.parametrize("minutes", [10, 30, 60])
def test_more_minutes_are_used_as_long_as_there_is_something_to_buy(minutes):
    effort, seconds = effort_for(minutes, Linear())
    assert effort > effort_for(minutes / 2, Linear())[0] and left_over(minutes, seconds) == []


def test_where_there_is_nothing_more_to_buy_it_is_said():
    (line,) = left_over(60, effort_for(60, Bounded())[1])
    assert "further `methods`" in line and left_over(0, 100.0) == []


class Costly(Measuring):
    """A project whose methods take steps of so many seconds."""

    def plan(self, budget: Budget):
        return SimpleNamespace(settings=load_settings(REPO / PARAMS))

    def rates(self, plan):
        steps = {"protonet": 9.0, "maml": 5.0, "ridge": 1.0, "bank": 2.0}
        return SimpleNamespace(trained={name: SimpleNamespace(networks=1, step=step) for name, step in steps.items()})


@pytest.mark.parametrize(
    ("methods", "written", "spare"),
    [
        ("protonet maml ridge bank", "", "bank ridge maml"),
        ("bank maml protonet", "", "bank maml"),
        ("bank maml protonet", "bank", "maml protonet"),
        ("ridge bank", "", "bank"),
        ("maml", "", ""),
    ],
)
def test_protonet_is_left_out_last_then_maml_and_the_costliest_first(methods, written, spare, monkeypatch):
    """Not where its steps are the user's own."""
    overrides = {"methods": methods.split()} | {f"{name}.steps": 7 for name in written.split()}
    monkeypatch.setenv(OVERRIDES, json.dumps(overrides))
    monkeypatch.chdir(REPO)
    assert Costly("", Path(), lambda: 0.0).spare() == spare.split()


@pytest.mark.parametrize(("minutes", "left"), [(1.3, 2), (2, 2), (2.2, 1), (2.6, 1), (2.7, 0), (60, 0)])
def test_few_minutes_leave_out_methods_the_first_ones_last(minutes, left):
    """Two methods with half of their training take two minutes in all, three take two and a half."""
    found, seconds = chosen(Budget(minutes=minutes), Several())
    assert found.left_out == ("bank", "maml")[:left] and seconds <= AIM * 60 * minutes
    assert found.minutes == minutes


def test_more_minutes_never_leave_out_a_method_or_train_one_for_less():
    found = [chosen(Budget(minutes=1.2 + tenth / 10), Several())[0] for tenth in range(60)]
    assert [len(each.left_out) for each in found] == sorted((len(each.left_out) for each in found), reverse=True)
    assert [each.effort for each in found] == sorted(each.effort for each in found) and found[-1].effort > 1
    assert all(each.effort <= ENOUGH for each in found if each.left_out)


def test_it_is_said_which_methods_are_left_out_why_and_what_has_time_for_them():
    found, _ = chosen(Budget(minutes=2), Several())
    (line,) = left_out(found, Several())
    assert line.startswith("left out: bank, maml, so that the others have up to 50% of their usual training; ")
    minutes = float(re.findall(r"--minutes ([\d.]+) has time for maml$", line)[0])
    assert chosen(Budget(minutes=minutes), Several())[0].left_out == ("bank",)
    assert left_out(Budget(minutes=9), Several()) == []


def test_what_has_gone_by_counts():
    assert effort_for(4, Linear(spent=60))[0] == effort_for(4 - 1 / AIM, Linear())[0] < effort_for(4, Linear())[0]


def test_the_effort_still_fits_after_another_width_was_measured():
    """More than 1 seems to fit 3 minutes. Once the wider network is measured neither it does, nor all of effort 1."""
    here = Wider()
    effort, seconds = effort_for(3, here)
    assert here.seen == {False, True} and effort < 1
    assert seconds + here.spent() <= AIM * 60 * 3 < 60 * (1 + 1.0) + here.spent()


def test_the_time_of_the_run_before_it_measures_counts(tmp_path, monkeypatch):
    """The data version and `prepare` come before, and the imports of this process."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPO / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    seen: list[float] = []

    def choose(asked: Budget, here: Measuring) -> tuple[Budget, float]:
        seen.append(here.spent())
        return asked.model_copy(update={"effort": 2.0}), 600.0

    monkeypatch.setattr(measuring_main, "chosen", choose)
    measuring_main.main("10", str(time.time() - 50))
    assert seen[0] >= 50
    assert (read_budget("budget.yaml").minutes, read_budget("budget.yaml").effort) == (10, 2.0)


def test_too_few_minutes_are_refused_with_the_least_that_works():
    with pytest.raises(MetaloomError, match="^--minutes 1 is too short: .* takes 1.1 minutes here now") as caught:
        effort_for(1, Linear())
    least = float(re.findall(r"--minutes ([\d.]+)", str(caught.value))[1])
    assert effort_for(least, Linear(spent=6))[0] >= EFFORTS[0]  # also where it is measured a little slower


def test_minutes_that_only_measuring_used_up_are_enough_the_next_time():
    with pytest.raises(MetaloomError, match=r"measuring took 1.0; what it found is kept: the same command works now"):
        effort_for(2, Linear(spent=60))
    assert effort_for(2, Linear(spent=10))[0] >= EFFORTS[0]


class Stepwise(Measuring):
    """A project whose methods and starts alone take two minutes; its single-task learners are not measured."""

    def plan(self, budget: Budget):
        return Plan(load_settings(REPO / PARAMS), [], [], pd.DataFrame(), "class")

    def _split(self, plan) -> None:
        pass

    def asked(self, plan):
        return Asked({}, {}, {})

    def spare(self) -> list[MethodName]:
        return []

    def seconds(self, budget: Budget) -> dict[str, float]:
        return {"all": sum(rates.start for rates in self._rates.values())}

    def _shape(self):
        return (1, 28, 28)


@pytest.mark.parametrize(("start", "measured"), [(120.0, 0), (1.0, 1)])
def test_measuring_ends_once_the_minutes_are_known_to_be_too_few_and_keeps_that(start, measured, tmp_path, monkeypatch):
    """After the start of a stage, or after the methods; a second try with no more minutes measures nothing."""
    monkeypatch.chdir(tmp_path)
    Path(STATE).mkdir()
    called: list[float] = []

    def measure(*arguments) -> Rates:
        called.append(start)
        arguments[-1](Rates.at_least(120.0))
        raise AssertionError("it went on")

    monkeypatch.setattr(choose, "starting", lambda watch: start)
    monkeypatch.setattr(choose, "measure", measure)
    monkeypatch.setattr(choose, "choose_engine", lambda engine: None)
    question = Question("data", "settings", "machine")
    with pytest.raises(MetaloomError, match="^--minutes 2 is too short: .* takes more than 2.0 minutes") as caught:
        chosen(Budget(minutes=2), Stepwise("", tmp_path, lambda: 0.0, Kept.read(question)))
    assert len(called) == measured and "`metaloom plan` measures the rest" in str(caught.value)
    with pytest.raises(MetaloomError, match="more than 2.0 minutes"):
        chosen(Budget(minutes=1), Stepwise("", tmp_path, lambda: 0.0, Kept.read(question)))
    assert len(called) == measured


def test_what_was_measured_is_kept_for_the_same_question_for_an_hour(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    question, alone = Question("data", "settings", "machine"), {"logistic": SingleTaskRate({5: 1.5, 25: 3.0}, 0.1)}
    rates = Rates(2.0, 1.0, 0.1, {"maml": MethodRate(Learns(False, 5), (3, 84, 84), 1, 0.5, 0.01)}, alone, 7)
    Kept.read(question, lambda: 100.0).add(48, rates)  # where there is no .metaloom/, nothing is kept
    assert Kept.read(question, lambda: 100.0).rates == {}
    Path(STATE).mkdir()
    Kept.read(question, lambda: 100.0).add(48, rates)
    assert Kept.read(question, lambda: 3600.0).rates == {48: rates}
    assert Kept.read(question, lambda: 3701.0).rates == {}
    assert Kept.read(Question("other", "settings", "machine"), lambda: 100.0).rates == {}
    MEASURED.write_text("{}")
    assert Kept.read(question, lambda: 100.0).rates == {}
