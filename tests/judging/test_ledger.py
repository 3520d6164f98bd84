"""The error of a year, and how worn the questions are."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from metaloom.judging.ledger import Entry, again, entries, merged, share, spent, wear, written

START = datetime(2026, 1, 1, 3, tzinfo=UTC)
ENTRY = Entry(START, "a" * 40, "b" * 40, "not worse", 0.05 / 365, "t1", 0.001, -0.008, 0.009, 900, ("size: é",))


def nights(days: list[float], alpha: float = 0.05) -> list[Entry]:
    """Judgements after so many days, each of another challenger, with what the ledger lets it spend."""
    past: list[Entry] = []
    for number, day in enumerate(days):
        now = START + timedelta(days=day)
        past.append(replace(ENTRY, when=now, challenger=str(number), alpha=share(past, now, alpha)))
    return past


def test_an_entry_comes_back_from_a_message_as_it_was():
    text = f"retrained on new data\n\n  {written(ENTRY)}\nSigned-off-by: somebody\n"
    assert entries(text) == [ENTRY]


@pytest.mark.parametrize(
    "line",
    ["judged: {", "judged: []", 'judged: {"when": 3}', written(ENTRY).replace("+00:00", ""), "judged: null"]
    + [written(ENTRY).replace(f"{ENTRY.alpha}", each) for each in ("NaN", '"much"', "null")]
    + [written(ENTRY).replace('"t1"', "null"), written(ENTRY).replace('"worn": 0', '"worn": "x"')],
)
def test_what_is_no_entry_is_passed_over(line):
    assert entries(f"{line}\n{written(ENTRY)}") == [ENTRY]


def test_every_night_of_a_year_has_the_same_share_and_all_of_them_the_year_s():
    past = nights(list(range(365)))
    assert {round(each.alpha * 365, 12) for each in past} == {0.05}
    assert spent(past, past[-1].when) == pytest.approx(0.05)


def test_days_without_a_judgement_are_not_lost():
    assert [round(each.alpha * 365 / 0.05, 6) for each in nights([0, 1, 31, 31.1])] == [1, 1, 30, 1]


def test_no_365_days_spend_more_than_the_year_s_share():
    days = np.cumsum(
        np.random.default_rng(0).choice([0.0, 0.01, 1, 3, 40, 200], 400, p=[0.2, 0.3, 0.3, 0.1, 0.07, 0.03])
    )
    past = nights(days.tolist())
    assert all(spent(past[: number + 1], each.when) <= 0.05 + 1e-12 for number, each in enumerate(past))
    assert min(each.alpha for each in past) >= 0


def test_a_clock_that_was_ahead_spends_no_day_twice():
    """Of a machine whose clock was a day ahead, and of clones whose clocks differ."""
    ahead = nights([0.0, 301.0])
    assert share(ahead, START + timedelta(days=300), 0.05) == pytest.approx(0.05 / 365)
    past = nights([0.0])
    for day in (300, 200, 100, 1):
        now = START + timedelta(days=day)
        past.append(replace(ENTRY, when=now, alpha=share(past, now, 0.05), challenger=f"{day}"))
    assert sum(each.alpha for each in past) <= 0.05


def test_when_all_is_spent_nothing_is_left_until_days_have_passed():
    past = nights([0.001 * minute for minute in range(400)])
    assert past[-1].alpha == 0 and share(past, START + timedelta(days=366), 0.05) > 0


def test_the_same_two_on_the_same_questions_spend_nothing_again():
    later = replace(ENTRY, when=START + timedelta(hours=1), outcome="better")
    assert merged([later, ENTRY]) == [replace(ENTRY, outcome="better")]
    nothing_left = replace(ENTRY, when=START - timedelta(days=3), alpha=0.0)
    assert merged([later, nothing_left]) == [later] and again([nothing_left], *ENTRY.pair) is None
    assert again([ENTRY], *ENTRY.pair) == ENTRY
    assert again([ENTRY], ENTRY.champion, ENTRY.challenger, "t2") is None


def test_the_luckiest_of_many_without_merit_is_as_lucky_as_it_says_at_most():
    """Simulated: the best mean of 50 versions over 30 classes whose differences have a deviation of 10 points."""
    rng = np.random.default_rng(1)
    lucky = rng.normal(0, 0.1, (300, 50, 30)).mean(axis=2).max(axis=1).mean()
    found = wear([replace(ENTRY, challenger=str(n)) for n in range(49)], "t1", 30, 0.1, 0.01)
    assert found.judgements == 50 and 0.75 * found.lucky < lucky <= found.lucky
    assert math.isclose(0.1 * math.sqrt(2 * math.log(50) / (30 + found.add)), 0.01, rel_tol=0.01)


def test_new_questions_are_not_worn():
    assert wear([ENTRY], "t2", 30, 0.1, 0.01).add == 0
