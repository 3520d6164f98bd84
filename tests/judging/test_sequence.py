"""The confidence sequence against exhaustive enumeration, a loop over the bets, and simulated stopping."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from metaloom.judging.decision import BETTER, NOT_WORSE, WORSE, decide
from metaloom.judging.sequence import LARGEST, SPREAD, WEIGHT, bounds, log_wealth, shown
from metaloom.judging.verdict import OUTCOMES

NIGHT = 0.05 / 365
SPREAD_OF_CHAMPIONS = 0.043  # of an episode's paired difference: what two champions had at 5w1s


def by_loop(differences: np.ndarray, mean: float, side: int, smallest: float) -> list[float]:
    """Capital after each round, a bet at a time."""
    capital, seen, found = 1.0, [], []
    for row in differences:
        total = sum(seen)
        gain = total / (len(seen) + WEIGHT)
        variance = (WEIGHT * SPREAD**2 + sum(x * x for x in seen) - gain * total) / (len(seen) + WEIGHT)
        gain = max(gain, smallest)
        bet = min(gain / (variance + gain**2), LARGEST / (1 + side * mean))
        for difference in row:
            capital *= 1 + bet * side * (difference - mean)
            seen.append(side * (difference - mean))
        found.append(capital)
    return found


@pytest.mark.parametrize(("mean", "side"), [(0.0, 1), (-0.01, 1), (0.0, -1), (0.2, -1)])
def test_the_capital_is_that_of_a_loop_over_the_bets(mean, side):
    differences = np.random.default_rng(0).uniform(-1, 1, (7, 3))
    expected = by_loop(differences, mean, side, 0.01)
    assert np.exp(log_wealth(differences, mean, side, 0.01)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("means", [(0.0, 0.0), (0.6, -0.6), (-0.3, 0.2)])
def test_over_all_that_can_happen_it_gains_nothing_where_the_claim_holds(means):
    """Every way that three rounds of two domains, each of which gives -1 or 1, can go."""
    expected = 0.0
    for outcome in itertools.product([-1.0, 1.0], repeat=6):
        differences = np.array(outcome).reshape(3, 2)
        chance = math.prod((1 + x * mean) / 2 for row in differences for x, mean in zip(row, means, strict=True))
        expected += chance * math.exp(log_wealth(differences, 0.0, 1, 0.01)[-1])
    assert expected <= 1 + 1e-9
    if set(means) == {0.0}:
        assert expected == pytest.approx(1)


def test_who_looks_after_every_round_errs_no_more_often_than_promised():
    """Skewed differences with a mean of 0: the worst that 4,000 trials show lies within what chance allows of 5%."""
    rng = np.random.default_rng(1)
    differences = np.where(rng.random((4000, 150, 2)) < 0.2, 0.4, -0.1)
    wrong = shown(differences, 0.0, 1, 0.05, 0.01)[:, -1].mean()
    assert 0.005 < wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


def test_the_interval_holds_the_mean_at_all_times_together():
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(40):
        differences = rng.choice([0.3, 0.0, -0.2], (60, 1))
        ends = [bounds(differences[:rounds], 0.05, 0.01) for rounds in (5, 20, 60)]
        missed += any(not low <= 0.1 / 3 <= high for low, high in ends)
    assert missed <= 6  # 10% of 40 and two standard deviations are 7.8


def test_the_interval_s_ends_are_where_a_grid_of_capitals_has_them():
    differences = np.random.default_rng(3).normal(0.02, 0.1, (60, 1)).clip(-1, 1)
    grid = np.linspace(-0.1, 0.15, 251)
    kept = [
        m for m in grid if max(by_loop(differences, m, 1, 0.01)) < 40 and max(by_loop(differences, m, -1, 0.01)) < 40
    ]
    low, high = bounds(differences, 1 / 40, 0.01)
    assert low == pytest.approx(min(kept), abs=1.1e-3) and high == pytest.approx(max(kept), abs=1.1e-3)


def test_the_interval_lies_within_hoeffding_s_and_holds_the_sample_s_mean():
    """Hoeffding's inequality for one fixed number of episodes, which is all that it is valid for."""
    differences = np.random.default_rng(4).normal(0.01, SPREAD_OF_CHAMPIONS, (1000, 1))
    half, mean = math.sqrt(2 * math.log(1 / 0.025) / 1000), differences.mean()
    low, high = bounds(differences, 0.025, 0.01)
    assert mean - half < low < mean < high < mean + half and high - low < half / 4


def test_nothing_asked_nothing_known():
    assert bounds(np.empty((0, 3)), 0.025, 0.01) == (-1.0, 1.0)
    assert not shown(np.ones((9, 1)), 0.0, 1, 0.0, 0.01).any()


@pytest.mark.parametrize(("gain", "episodes"), [(0.01, 1500), (0.02, 700)])
def test_a_true_gain_is_found_at_a_night_s_share_of_the_error(gain, episodes):
    differences = np.random.default_rng(5).normal(gain, SPREAD_OF_CHAMPIONS, (300, episodes // 10, 10))
    assert shown(differences, 0.0, 1, NIGHT, 0.01)[:, -1].mean() >= 0.9


@pytest.mark.parametrize(("mean", "outcome"), [(0.03, BETTER), (0.0, NOT_WORSE), (-0.03, WORSE)])
def test_it_comes_to_what_is_true(mean, outcome):
    differences = np.random.default_rng(6).normal(mean, SPREAD_OF_CHAMPIONS, (50, 1000, 2))
    found = decide(differences, NIGHT, 0.01)
    assert (found.outcome == outcome).all() and found.over.all()
    assert (found.rounds < 1000).all()


def test_it_stays_what_it_was_when_it_was_decided():
    """A thousand rounds of the contrary later, or not."""
    rng = np.random.default_rng(7)
    rounds = rng.normal(0.05, SPREAD_OF_CHAMPIONS, (300, 1))
    first = decide(rounds, NIGHT, 0.01)
    assert first.over and OUTCOMES[first.outcome] == "better"
    assert decide(np.concatenate([rounds, rounds - 0.2]), NIGHT, 0.01)[:2] == first[:2]


def test_few_rounds_leave_it_open():
    found = decide(np.zeros((5, 2)), NIGHT, 0.01)
    assert (OUTCOMES[found.outcome], int(found.rounds), bool(found.over)) == ("undecided", 5, False)
