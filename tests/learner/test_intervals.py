"""95% intervals against scipy, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from metaloom.learner.intervals import interval, mean_and_half_width, resamples


def of_mean(values: np.ndarray, samples: int = 4000) -> tuple[float, float]:
    return interval(resamples(len(values), samples) @ values, float(values.mean()), len(values))


def test_the_interval_is_scipy_s_percentile_bootstrap():
    values = np.random.default_rng(0).beta(8, 2, 200)
    low, high = of_mean(values)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", random_state=0)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.002)


@pytest.mark.parametrize("episodes", [5, 12, 19])
def test_from_few_episodes_it_is_scipy_s_student_t(episodes):
    values = np.random.default_rng(1).beta(8, 2, episodes)
    low, high = of_mean(values)
    expected = stats.t.interval(0.95, episodes - 1, values.mean(), stats.sem(values))
    half = (expected[1] - expected[0]) / 2
    assert (low, high) == pytest.approx(expected, abs=0.05 * half)


@pytest.mark.parametrize("values", [[0.5, 0.6, 0.7, 0.8], [0.8, 0.8, 0.8], [0.9] * 10, [1.0] * 50])
def test_too_few_episodes_and_episodes_without_a_spread_have_no_interval(values):
    assert np.isnan(of_mean(np.array(values))).all() and np.isnan(mean_and_half_width(np.array(values))[1])


@pytest.mark.parametrize("episodes", [5, 10, 19, 30])
def test_the_interval_covers_the_truth_as_often_as_it_says(episodes):
    """600 sets of episodes with a known mean accuracy; 3.3 standard errors of their share are three points."""
    drawn = np.random.default_rng(episodes).beta(8, 4, (600, episodes))
    held = [low <= 8 / 12 <= high for low, high in (of_mean(values, 400) for values in drawn)]
    assert 0.95 - 0.045 < np.mean(held) < 0.98


@pytest.mark.parametrize("episodes", [5, 10, 200])
def test_the_half_width_of_a_mean_is_scipy_s_student_t(episodes):
    values = np.random.default_rng(2).normal(size=episodes)
    mean, half = mean_and_half_width(values)
    expected = stats.t.interval(0.95, episodes - 1, values.mean(), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx(expected)
