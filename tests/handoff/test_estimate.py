from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest

from metaloom.config import Settings
from metaloom.learner import Learner
from metaloom.learner.estimate import cross_validated, held_out, wilson


@pytest.mark.parametrize("right, examples", [(0, 1), (1, 1), (0, 30), (18, 24), (599, 600), (5, 10)])
def test_the_interval_is_scipys(right: int, examples: int):
    expected = binomtest(right, examples).proportion_ci(method="wilson")
    assert wilson(right, examples) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_held_out_says_what_it_is():
    low, high = wilson(18, 24)
    assert held_out(18, 24) == {
        "kind": "held_out", "accuracy": 0.75, "low95": low, "high95": high, "examples": 24
    }  # fmt: skip


def test_cross_validation_asks_only_what_was_not_learned(
    make_learner: Callable[..., Learner], pictures: np.ndarray, tiny_settings: Settings
):
    """Labels without meaning are answered by chance; a model that had seen the answers would be right."""
    learner = make_learner("protonet", tiny_settings.model_copy(update={"seed": 3}))  # one in twenty is off by chance
    ways = np.arange(4).repeat(40)
    meaningless = np.random.default_rng(0).permutation(ways)
    found = cross_validated(learner, np.random.default_rng(1).permutation(pictures[:160]), meaningless, seed=0)
    assert found is not None and found["folds"] == 5 and found["examples"] == 160
    assert found["low95"] < 0.25 < found["high95"]


def test_a_method_that_changes_the_network_is_asked_only_what_it_has_not_learned(
    make_learner: Callable[[str], Learner], monkeypatch: pytest.MonkeyPatch
):
    numbered = np.empty((20, 28, 28, 1), np.uint8)
    numbered[:] = np.arange(20)[:, None, None, None]
    asked: list[int] = []

    def adapt(self: Learner, images: np.ndarray, ways: np.ndarray) -> SimpleNamespace:
        def predict(query: np.ndarray) -> list[int]:
            assert not np.isin(query[:, 0, 0, 0], images[:, 0, 0, 0]).any()
            asked.extend(query[:, 0, 0, 0].tolist())
            return [0] * len(query)

        return SimpleNamespace(predict=predict)

    learner = make_learner("reptile")
    monkeypatch.setattr(Learner, "adapt", adapt)
    found = cross_validated(learner, numbered, np.arange(2).repeat(10), seed=0)
    assert found is not None and found["accuracy"] == 0.5
    assert sorted(asked) == list(range(20))


def test_cross_validation_finds_easy_classes_easy(make_learner: Callable[[str], Learner]):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (20, 28, 28, 1), dtype=np.uint8)
    images[:10, :14] += 190  # light above
    images[10:, :, :14] += 190  # light on the left
    found = cross_validated(make_learner("protonet"), images, np.arange(2).repeat(10), seed=0)
    assert found is not None and found["accuracy"] == 1.0 and found["low95"] < 1


def test_uneven_classes_and_single_examples(make_learner: Callable[[str], Learner], pictures: np.ndarray):
    ways = np.array([0, 0, 1, 1, 1, 1, 1, 1, 1])
    found = cross_validated(make_learner("protonet"), pictures[:9], ways, seed=0)
    assert found is not None and found["examples"] == 9
    assert cross_validated(make_learner("protonet"), pictures[:3], np.array([0, 0, 1]), seed=0) is None
