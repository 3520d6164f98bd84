from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from metaloom.evaluation.statistics import compare, holm, labels_needed, permutation_test


def test_the_permutation_test_is_scipy_s():
    rng = np.random.default_rng(0)
    gaps = rng.normal(0.02, 0.1, 60)
    expected = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=20_000, random_state=rng
    ).pvalue
    assert permutation_test(gaps, 20_000) == pytest.approx(expected, abs=0.02)


def test_few_episodes_cannot_be_significant():
    gaps = np.array([0.3, 0.4, 0.2])
    exact = np.mean([abs(np.dot(signs, gaps)) >= gaps.sum() - 1e-9 for signs in itertools.product([1, -1], repeat=3)])
    assert exact == 0.25 and permutation_test(gaps, 5000) == pytest.approx(exact, abs=0.02)


def test_differences_are_paired_on_the_episodes_that_both_answered():
    rng = np.random.default_rng(0)
    one, other = rng.random(30), rng.random(10)
    other[4] = np.nan
    found = compare("a", "b", {"a": one, "b": other}, 2000)
    both = np.delete(one[:10] - other, 4)
    assert found.episodes == 9 and found.difference == pytest.approx(both.mean())
    assert found.low95 < found.difference < found.high95
    assert found.high95 - found.low95 == pytest.approx(2 * stats.t.ppf(0.975, 8) * stats.sem(both), rel=0.05)
    assert compare("a", "b", {"a": one, "b": np.full(10, np.nan)}, 100).episodes == 0


def test_three_episodes_have_a_difference_and_no_interval():
    found = compare("a", "b", {"a": np.array([0.9, 0.9, 0.9]), "b": np.array([0.5, 0.5, 0.5])}, 200)
    assert found.difference == pytest.approx(0.4) and np.isnan([found.low95, found.high95]).all()
    assert np.isnan(found.record("5w1s", None)["ci95"])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


SHOTS = [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [(0.3, 1.0), (0.4, 1.0), (0.5, 2**0.5), (0.6, 2.0), (0.75, 4 * 2 ** (1 / 3)), (0.9, np.inf)],
)
def test_labels_needed_lie_between_the_measured_ones_on_a_logarithmic_scale(wanted, labels):
    assert labels_needed(np.array([wanted]), SHOTS, np.array([[0.4, 0.6, 0.7, 0.85]])) == pytest.approx([labels])


def test_what_more_labels_lose_does_not_count():
    curve = np.array([[0.4, 0.6, 0.5, 0.8], [0.7, 0.6, 0.5, 0.4]])
    needed = labels_needed(np.array([0.7, 0.65]), SHOTS, curve)
    assert needed == pytest.approx([4 * 2**0.5, 1.0])
