"""How much work fits into so many minutes."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from projects import REPO

from metaloom.errors import MetaloomError
from metaloom.measuring import __main__ as measuring_main
from metaloom.measuring.choose import AIM, EFFORTS, Measuring, effort_for, left_over
from metaloom.planning.budget import read_budget


class Linear(Measuring):
    """A project whose run takes a minute, and another one for each unit of effort; `spent` seconds are gone."""

    def __init__(self, spent: float = 0.0) -> None:
        super().__init__("", Path(), lambda: spent)

    def measured(self, effort: float) -> bool:
        return False

    def seconds(self, effort: float) -> dict[str, float]:
        return {"fixed": 60.0, "training": 60.0 * effort}


class Bounded(Linear):
    """The same, where the user wrote every number: more effort changes nothing."""

    def seconds(self, effort: float) -> dict[str, float]:
        return {"fixed": 120.0}


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

    def seconds(self, effort: float) -> dict[str, float]:
        slow = 2 if effort > 1 and True in self.seen else 1
        return {"fixed": 60.0, "training": 60.0 * effort * slow}


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

    def chosen(minutes: float, here: Measuring) -> tuple[float, float]:
        seen.append(here.spent())
        return 2.0, 60 * minutes

    monkeypatch.setattr(measuring_main, "effort_for", chosen)
    measuring_main.main("10", str(time.time() - 50))
    assert seen[0] >= 50
    assert (read_budget("budget.yaml").minutes, read_budget("budget.yaml").effort) == (10, 2.0)


def test_too_few_minutes_are_refused_with_the_least_that_works():
    with pytest.raises(MetaloomError, match="^--minutes 1 is too short: .* takes 1.1 minutes here now") as caught:
        effort_for(1, Linear())
    least = float(re.findall(r"--minutes ([\d.]+)", str(caught.value))[1])
    assert effort_for(least, Linear(spent=6))[0] >= EFFORTS[0]  # also where it is measured a little slower
