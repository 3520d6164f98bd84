from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metaloom.evaluation.statistics import paired_differences, summarise
from metaloom.methods.scoring import mean_and_half_width


def a_table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (learner, setting, episode, rng.random(), rng.random())
        for learner, episodes in (("protonet", 30), ("scratch", 10))
        for setting in ("5w1s", "5w1s_domain")
        for episode in range(episodes)
    ]
    return pd.DataFrame(rows, columns=["learner", "setting", "episode", "accuracy", "nll"])


def test_the_interval_is_scipy_s():
    values = np.random.default_rng(0).random(50)
    mean, half = mean_and_half_width(values)
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-4)


def test_a_single_episode_has_no_width():
    assert mean_and_half_width(np.array([0.5])) == (0.5, 0.0)


def test_the_summary_has_every_learner_and_setting():
    table = a_table()
    summary = summarise(table)
    assert {learner: list(settings) for learner, settings in summary.items()} == {
        "protonet": ["5w1s", "5w1s_domain"],
        "scratch": ["5w1s", "5w1s_domain"],
    }
    rows = table[(table["learner"] == "scratch") & (table["setting"] == "5w1s")]
    assert summary["scratch"]["5w1s"]["accuracy"] == pytest.approx(rows["accuracy"].mean())
    assert summary["scratch"]["5w1s"]["nll"] == pytest.approx(rows["nll"].mean())
    assert summary["scratch"]["5w1s"]["episodes"] == 10


def test_differences_are_paired_on_the_episodes_that_both_answered():
    table = a_table()
    got = paired_differences(table, "protonet")["5w1s"]
    assert list(got) == ["scratch"]
    of = {
        learner: table[(table["learner"] == learner) & (table["setting"] == "5w1s")]["accuracy"].to_numpy()
        for learner in ("protonet", "scratch")
    }
    both = of["protonet"][:10] - of["scratch"]
    assert got["scratch"]["episodes"] == 10
    assert got["scratch"]["difference"] == pytest.approx(both.mean())
    assert got["scratch"]["ci95"] == pytest.approx(stats.sem(both) * 1.96)
