"""Learners against each other, on the same episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from metaloom.learner.intervals import interval, resamples

# of each learner; NaN where it failed, fewer where it was asked less
Accuracies = Mapping[str, Float[np.ndarray, " episode"]]


@dataclass(frozen=True)
class PairedDifference:
    """Learner minus rival, over the episodes that both answered; `p` of the paired permutation test.

    The ends of the interval are NaN where the episodes are too few, or do not differ (see `interval`).
    """

    learner: str
    rival: str
    difference: float
    low95: float
    high95: float
    episodes: int
    p: float

    def record(self, setting: str, p_holm: float | None) -> dict[str, Any]:
        """As a row of differences.json."""
        ci95 = (self.high95 - self.low95) / 2
        return {"setting": setting, **vars(self), "ci95": ci95, "p_holm": p_holm}


def compare(learner: str, rival: str, accuracies: Accuracies, samples: int) -> PairedDifference:
    """The paired difference in accuracy with its bootstrap interval, and p of the permutation test."""
    one, other = accuracies[learner], accuracies[rival]
    episodes = min(len(one), len(other))
    both = one[:episodes] - other[:episodes]
    both = both[np.isfinite(both)]
    if not len(both):
        return PairedDifference(learner, rival, math.nan, math.nan, math.nan, 0, math.nan)
    mean = float(both.mean())
    low, high = interval(resamples(len(both), samples) @ both, mean, len(both))
    return PairedDifference(learner, rival, mean, low, high, len(both), permutation_test(both, samples))


def permutation_test(differences: Float[np.ndarray, " episode"], samples: int, seed: int = 0) -> float:
    """Two-sided p of paired differences: how often random signs give a mean as far from zero, the observed one among
    them."""
    signs = np.random.default_rng(seed).integers(0, 2, (samples, len(differences)), dtype=np.int8) * 2 - 1
    means = np.abs(signs @ differences)
    extreme = (means >= abs(differences.sum()) - 1e-9).sum()
    return float((1 + extreme) / (1 + samples))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p)[order])
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def labels_needed(
    wanted: Float[np.ndarray, " sample"],
    shots: Sequence[int],
    curve: Float[np.ndarray, "sample shot"],
) -> Float[np.ndarray, " sample"]:
    """How many labelled examples per class a learner needs for an accuracy, between the measured numbers on a
    logarithmic scale.

    Args:
        wanted: the accuracy, for each sample.
        shots: ascending.
        curve: its accuracy with so many; what more of them lose counts as if they had not.

    Returns:
        1 or so where the fewest are enough, infinity where the most are not.
    """
    best = np.maximum.accumulate(curve, axis=1)
    reached = best >= wanted[:, None] - 1e-12
    place = reached.argmax(axis=1)
    row, before = np.arange(len(best)), np.maximum(place - 1, 0)
    low, high = best[row, before], best[row, place]
    logs = np.log(np.asarray(shots, dtype=float))
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(place > 0, (wanted - low) / (high - low), 0.0)
    needed = np.exp(logs[before] + part * (logs[place] - logs[before]))
    return np.where(reached.any(axis=1), needed, np.inf)
