from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from metaloom.evaluation.figures import (
    Answers,
    Reliability,
    by_domain,
    calibration_error,
    figures,
    share_interval,
    worst_decile,
)
from metaloom.learner.intervals import resamples
from metaloom.tasks import EpisodeTable


def made_up(episodes: int = 40, ways: int = 4, queries: int = 3, seed: int = 0) -> Answers:
    """Answers that are right more often than not; each way's rows are 100 apart."""
    rng = np.random.default_rng(seed)
    rows = 100 * np.arange(ways)[None, :, None] + rng.integers(0, 100, (episodes, ways, 1 + queries))
    table = EpisodeTable(rows[:, :, :1], rows[:, :, 1:])
    logits = rng.normal(size=(episodes, ways * queries, ways)) + 2 * np.eye(ways)[table.answers]
    return Answers(log_softmax(logits, axis=2).astype(np.float32), table)


def test_an_interval_of_a_share_stays_a_share():
    low, high = share_interval(np.array([0.9, 1.0] * 200), 0.95, 6)
    assert 0.7 < low < 0.95 and high == 1


def test_accuracy_and_nll_by_hand():
    answers = made_up(5)
    for episode in range(5):
        p = np.exp(answers.log_p[episode])
        own = p[np.arange(12), np.repeat(range(4), 3)]
        assert answers.accuracy[episode] == (p.argmax(axis=1) == np.repeat(range(4), 3)).mean()
        assert answers.nll[episode] == pytest.approx(-np.log(own).mean(), rel=1e-5)


def test_calibration_error_is_that_of_a_plain_loop_over_bins_of_equal_number():
    answers = made_up(50)
    p = np.exp(answers.log_p.astype(np.float64)).reshape(-1, 4)
    right = answers.right.ravel()
    order = np.argsort(p.max(axis=1), kind="stable")
    expected = 0.0
    for part in np.array_split(order, 15):  # 600 queries: 40 a bin
        expected += len(part) / len(p) * abs(p[part].max(axis=1).mean() - right[part].mean())
    found, drawn = calibration_error(answers, resamples(50, 300))
    assert found == pytest.approx(expected, abs=1e-6)
    assert np.percentile(drawn, 2.5) < np.median(drawn) and len(drawn) == 300
    assert Reliability.of(answers).table()["share"].sum() == pytest.approx(1)


def test_honest_probabilities_have_next_to_no_calibration_error():
    rng = np.random.default_rng(0)
    table = EpisodeTable(np.zeros((400, 2, 1), int), np.zeros((400, 2, 50), int))
    sure = rng.uniform(0.5, 1, (400, 100))
    said_own = rng.random((400, 100)) < sure  # right as often as it is sure
    p_own = np.where(said_own, sure, 1 - sure)
    p = np.stack([p_own, 1 - p_own], axis=2)
    p[:, 50:] = p[:, 50:, ::-1]
    assert calibration_error(Answers(np.log(p), table), np.full((1, 400), 1 / 400))[0] < 0.01


def test_worst_decile_and_its_bootstrap():
    answers = made_up(40)
    accuracy = answers.accuracy
    assert worst_decile(accuracy) == np.sort(accuracy)[:4].mean()
    found = figures(answers, 500)
    rng = np.random.default_rng(0)
    by_hand = [worst_decile(accuracy[rng.integers(0, 40, 40)]) for _ in range(2000)]
    low, high = np.percentile(by_hand, [2.5, 97.5])
    assert (found["worst_decile_low95"], found["worst_decile_high95"]) == pytest.approx((low, high), abs=0.05)


def test_failed_episodes_are_counted_and_not_averaged():
    answers = made_up(20)
    log_p = answers.log_p.copy()
    log_p[[3, 7]] = np.nan
    found = figures(Answers(log_p, answers.table), 200)
    others = np.delete(answers.accuracy, [3, 7])
    assert (found["episodes"], found["failed"]) == (18, 2)
    assert found["accuracy"] == pytest.approx(others.mean())
    assert np.isnan(Answers(log_p, answers.table).accuracy[[3, 7]]).all()
    nothing = figures(Answers(np.full_like(log_p, np.nan), answers.table), 200)
    assert (nothing["episodes"], nothing["failed"]) == (0, 20) and np.isnan(nothing["accuracy"])


def test_figures_by_domain_are_pandas():
    answers = made_up(30)
    domains = np.arange(400) // 200  # ways 0 and 1, ways 2 and 3
    rows = by_domain(answers, domains, 500)
    table = pd.DataFrame({"code": domains[answers.table.query_rows.ravel()], "right": answers.right.ravel()})
    expected = table.groupby("code")["right"].agg(["mean", "size"])
    assert rows["accuracy"].tolist() == pytest.approx(expected["mean"].tolist())
    assert rows["queries"].tolist() == expected["size"].tolist()
    assert ((rows["low95"] < rows["accuracy"]) & (rows["accuracy"] < rows["high95"])).all()


def test_three_episodes_have_figures_and_no_interval():
    found = figures(made_up(3), 200)
    ends = [name for name in found if name.endswith("95")]
    assert len(ends) == 9 and all(np.isnan(found[name]) for name in ends)
    assert all(np.isfinite(found[name]) for name in ("accuracy", "nll", "ece", "worst_decile"))
