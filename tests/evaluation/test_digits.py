"""Figures to the digits that their intervals support, and a run's against the commit's."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest

from metaloom.evaluation.digits import decimals_of, rounded_figures
from metaloom.pipeline.committed import against_committed
from metaloom.system.rounding import decimals, rounded


def scores(**changes) -> dict:
    figures = {"accuracy": 0.7544, "low95": 0.742, "high95": 0.767, "ci95": 0.0125, "nll": 0.611}
    figures |= {"nll_low95": 0.58, "nll_high95": 0.64, "ece": 0.02, "ece_low95": 0.01, "ece_high95": 0.03}
    return figures | {"worst_decile": 0.5, "worst_decile_low95": 0.4, "worst_decile_high95": 0.6} | changes


@pytest.mark.parametrize("half", ["0.0125", "0.0036", "0.2", "0.099", "0.1", "1.3", "12", "340", "0.00004"])
def test_two_digits_of_the_half_width_are_kept(half):
    """Decimal's exponent of the leading digit is the oracle."""
    assert decimals(float(half)) == max(0, 1 - Decimal(half).adjusted())


@pytest.mark.parametrize("ends", [(None, None), (float("nan"), float("nan")), (0.5, 0.5)])
def test_without_an_interval_three_decimals(ends):
    assert decimals_of(dict(zip(("low95", "high95"), ends, strict=True)), "accuracy") == 3


def test_every_figure_is_rounded_as_its_own_interval_supports():
    found = rounded_figures(
        scores(accuracy=0.75438, nll=0.61149, ece=0.012872, worst_decile=0.7960001, episodes=100, failed=2)
    )
    assert (found["accuracy"], found["low95"], found["ci95"]) == (0.754, 0.742, 0.013)
    assert (found["nll"], found["ece"], found["worst_decile"]) == (0.611, 0.013, 0.8)
    assert (found["episodes"], found["failed"]) == (100, 2)
    nothing = dict.fromkeys(scores()) | {"episodes": 0}
    assert rounded_figures(nothing) == nothing
    assert rounded({"a": {"b": 0.83159999}, "n": 7, "s": "x"}) == {"a": {"b": 0.832}, "n": 7, "s": "x"}


def test_the_committed_figures():
    one = {"maml": {"5w1s": scores()}}
    assert against_committed(one, copy.deepcopy(one)) == "the committed ones"


@pytest.mark.parametrize("changes", [{"accuracy": 0.7543}, {"accuracy": 0.7554}, {"nll": 0.6101}, {"low95": 0.7421}])
def test_rounding_on_another_processor(changes):
    committed, now = {"maml": {"5w1s": scores()}}, {"maml": {"5w1s": scores(**changes)}}
    assert against_committed(committed, now) == "the committed ones, to rounding"


def test_what_differs_is_named_the_greatest_first():
    committed = {"maml": {"5w1s": scores(), "5w5s": scores()}, "svm": {"5w1s": scores()}}
    now = copy.deepcopy(committed)
    now["maml"]["5w5s"] |= {"accuracy": 0.751}
    assert against_committed(committed, now) == (
        "1 of 12 differ from the committed ones, all within their intervals: maml 5w5s accuracy 0.7544 → 0.751"
    )
    now["maml"]["5w1s"] |= {"nll": 0.7, "nll_low95": 0.66, "nll_high95": 0.74}
    now["svm"]["5w1s"] |= {"ece": 0.05, "ece_low95": 0.04, "ece_high95": 0.06}
    assert against_committed(committed, now) == (
        "3 of 12 differ from the committed ones, 2 of them beyond their intervals: "
        "maml 5w1s nll 0.611 → 0.7, svm 5w1s ece 0.02 → 0.05 and 1 more"
    )


def test_figures_that_are_not_in_both():
    committed, now = {"maml": {"5w1s": scores()}}, {"maml": {"5w1s": scores(), "5w5s": scores()}}
    assert against_committed(committed, now) == "the committed ones; not committed: maml 5w5s"
    assert against_committed(now, committed) == "the committed ones; committed only: maml 5w5s"
    assert against_committed(committed, {"svm": now["maml"]}) == "of other learners or settings than the committed ones"
    none = dict.fromkeys(scores())
    assert against_committed({"a": {"s": none}}, {"a": {"s": none | {"episodes": 0}}}) == "the committed ones"
    assert against_committed({"a": {"s": none}}, {"a": {"s": none | {"accuracy": 0.5}}}) == (
        "1 of 4 differ from the committed ones, all within their intervals: a s accuracy none → 0.5"
    )
