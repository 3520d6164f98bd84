from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from metaloom.learner.temperature import LabelledLogits, Temperature, _nll


def answered(n_way: int, n_shot: int, t: float, seed: int = 0, queries: int = 6000) -> LabelledLogits:
    """Logits that are t times as large as the honest ones."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (queries, n_way))
    p = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > rng.random((queries, 1))).argmax(axis=1)
    return LabelledLogits(n_way, n_shot, t * honest, labels)


def test_a_planted_temperature_is_found_for_every_shape():
    def planted(n_way, n_shot):
        return np.exp(0.5 + 0.4 * np.log(n_shot) - 0.2 * np.log(n_way))

    shapes = [(5, 1), (5, 5), (20, 1), (20, 5)]
    found = Temperature.fitted([answered(*shape, planted(*shape), seed=sum(shape)) for shape in shapes])
    for shape in [*shapes, (10, 2)]:
        assert found(*shape) == pytest.approx(planted(*shape), rel=0.08)


def test_one_setting_s_temperature_is_that_of_a_line_search():
    each = answered(5, 1, 3.0)
    best = minimize_scalar(lambda log_t: _nll(each.logits, each.labels, log_t)[0], bounds=(-3, 3), method="bounded")
    assert Temperature.fitted([each])(5, 1) == pytest.approx(np.exp(best.x), rel=0.02)


def test_the_slope_by_finite_differences():
    each, step = answered(4, 1, 2.0, queries=50), 1e-5
    above, below = (_nll(each.logits, each.labels, 0.3 + sign * step)[0] for sign in (1, -1))
    assert _nll(each.logits, each.labels, 0.3)[1] == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_outside_what_was_seen_the_nearest_end_counts():
    found = Temperature.fitted([answered(5, 1, 2.0), answered(20, 5, 4.0)])
    assert found(100, 50) == found(20, 5) and found(2, 1) == found(5, 1)


def test_uneven_classes_count_by_the_mean_of_their_logarithms():
    """One class of many examples makes a task of single ones hardly surer."""
    t = Temperature(level=0.2, shot=-0.5, way=0.1, shots=(1.0, 20.0), ways=(2.0, 20.0))
    labels = [0, 1, 2, *[3] * 16]
    assert t.of_task(np.array(labels), 4) == pytest.approx(np.exp(0.2 - 0.5 * np.log(16) / 4 + 0.1 * np.log(4)))
    assert t.of_task(np.array([0, 0, 1, 1]), 2) == pytest.approx(t(2, 2))


def test_answers_that_are_not_finite_do_not_count():
    each = answered(5, 1, 2.0)
    logits = each.logits.copy()
    logits[::3, 2] = np.nan
    found = Temperature.fitted(
        [each._replace(logits=logits), answered(5, 5, 1.0)._replace(logits=np.full((6000, 5), np.nan))]
    )
    assert found(5, 1) == pytest.approx(2.0, rel=0.1)


def test_without_answers_it_is_one_and_it_comes_back_from_disk():
    assert Temperature.fitted([])(7, 3) == 1.0
    found = Temperature.fitted([answered(5, 1, 2.0, queries=200)])
    assert Temperature.read(found.saved()) == found and Temperature.read({}) == Temperature()
