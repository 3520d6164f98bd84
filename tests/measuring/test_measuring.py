"""How long a run takes, from a few steps, and how much work fits into so many minutes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from metaloom.errors import MetaloomError
from metaloom.measuring.choose import AIM, EFFORTS, Measuring, effort_for
from metaloom.measuring.rates import Alone


class Linear(Measuring):
    """A project whose run takes a minute, and another one for each unit of effort."""

    def seconds(self, effort: float) -> dict[str, float]:
        return {"fixed": 60.0, "training": 60.0 * effort}


LINEAR = Linear("", Path())


@pytest.mark.parametrize("minutes", [2, 3, 6, 10])
def test_the_greatest_effort_that_fits_is_chosen(minutes):
    effort, seconds = effort_for(minutes, LINEAR, time.perf_counter())
    fitting = [each for each in EFFORTS if 1 + each <= AIM * minutes - 0.01]
    assert effort == max(fitting) and seconds == 60 * (1 + effort)


def test_what_measuring_took_counts():
    early, late = (effort_for(4, LINEAR, time.perf_counter() - spent)[0] for spent in (0, 60))
    assert late < early


def test_too_few_minutes_are_refused_with_the_least_that_works():
    with pytest.raises(MetaloomError, match="--minutes 1 is too short: .* takes 1.1 minutes here") as caught:
        effort_for(1, LINEAR, time.perf_counter())
    least = float(re.findall(r"--minutes ([\d.]+)", str(caught.value))[-1])
    assert effort_for(least, LINEAR, time.perf_counter())[0] >= EFFORTS[0]


def test_a_task_takes_as_long_as_the_line_through_two_says():
    alone = Alone((5, 1.0), (25, 3.0), 0.0)
    assert [alone.task(labelled) for labelled in (5, 15, 50)] == [1.0, 2.0, 5.5]
    assert Alone((5, 1.0), (5, 1.0), 0.0).task(50) == 1.0  # all tasks are of one size
    assert Alone((5, 1.0), (25, 0.5), 0.0).task(25) == 1.0  # noise
