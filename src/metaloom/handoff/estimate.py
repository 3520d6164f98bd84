"""How good one task model is: on held-out examples, or by cross-validation on its support set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from metaloom.methods import Learner

Z = 1.959964  # of a two-sided 95% interval
FOLDS = 5


def held_out(right: int, examples: int) -> dict[str, Any]:
    """The estimate of a model that was asked about examples it had not learned from."""
    return {"kind": "held_out", **_scores(right, examples)}


def cross_validated(
    learner: Learner,
    images: UInt8[np.ndarray, "support height width channel"],
    ways: Int[np.ndarray, " support"],
    seed: int,
) -> dict[str, Any] | None:
    """Stratified cross-validation: every support example is asked once of a model that has not seen it.

    Those models have learned from fewer examples than the one that is handed off, so the estimate is rather
    low than high. None where a class has a single example, which cannot be both learned from and asked.
    """
    counts = np.bincount(ways)
    if counts.min() < 2:
        return None
    folds = min(FOLDS, int(counts.max()))
    fold = np.empty(len(ways), dtype=int)
    rng = np.random.default_rng(seed)
    for way, count in enumerate(counts):
        fold[ways == way] = rng.permutation(count) % folds
    right = 0
    for each in range(folds):
        asked = fold == each
        task = learner.adapt(images[~asked], ways[~asked])
        right += int((np.array(task.predict(images[asked])) == ways[asked]).sum())
    return {"kind": "cross_validation", "folds": folds, **_scores(right, len(ways))}


def _scores(right: int, examples: int) -> dict[str, Any]:
    low, high = wilson(right, examples)
    return {"accuracy": right / examples, "low95": low, "high95": high, "examples": examples}


def wilson(right: int, examples: int) -> tuple[float, float]:
    """95% interval of a proportion: Wilson, Probable Inference, 1927. Sound at 0 and 1 too."""
    share, weight = right / examples, Z * Z / examples
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / examples + weight / examples / 4)
    return max(0.0, centre - half), min(1.0, centre + half)
