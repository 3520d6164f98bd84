"""How good one task model is: on held-out examples, or by cross-validation on its support set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from metaloom.learner.intervals import Z
from metaloom.learner.learner import Learner

FOLDS = 5


def held_out(right: int, examples: int) -> dict[str, Any]:
    """The estimate of a model that was asked about examples it had not learned from."""
    return {"kind": "held_out", **_scores(right, examples)}


def cross_validated(
    learner: Learner,
    examples: Shaped[np.ndarray, "support ..."],
    ways: Int[np.ndarray, " support"],
    seed: int,
) -> dict[str, Any] | None:
    """Stratified cross-validation: every support example is asked once of a model that has not seen it.

    Few folds, as Shimabucoro, Hospedales, Gouk: Evaluating the Evaluators: Are Current Few-Shot Learning Benchmarks
    Fit for Purpose?, 2023 (https://arxiv.org/abs/2307.02732) find best. Those models have learned from fewer examples
    than the one that is handed off, so the estimate is rather low than high. None where a class has a single example,
    which cannot be both learned from and asked.
    """
    predict = _of_examples(learner, examples, ways)
    if learner.method.frozen and np.bincount(ways).min() > 1:
        predict = _of_embeddings(learner, learner.embed(torch.as_tensor(examples), np.arange(len(examples))), ways)
    return _folded(predict, ways, seed)


def cross_validated_embeddings(
    learner: Learner, z: Float[Tensor, "support embed"], ways: Int[np.ndarray, " support"], seed: int
) -> dict[str, Any] | None:
    """The same from the support's embeddings, for a method that leaves the network as it is."""
    return _folded(_of_embeddings(learner, z, ways), ways, seed)


def _folded(predict: Callable[[np.ndarray], np.ndarray], ways: np.ndarray, seed: int) -> dict[str, Any] | None:
    counts = np.bincount(ways)
    if counts.min() < 2:
        return None
    folds = min(FOLDS, int(counts.max()))
    fold = np.empty(len(ways), dtype=int)
    rng = np.random.default_rng(seed)
    for way, count in enumerate(counts):
        fold[ways == way] = rng.permutation(count) % folds
    right = sum(int((predict(fold == each) == ways[fold == each]).sum()) for each in range(folds))
    return {"kind": "cross_validation", "folds": folds, **_scores(right, len(ways))}


def _of_examples(learner: Learner, examples: np.ndarray, ways: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The ways of some of the examples as a model says that has learned from the others."""
    return lambda asked: np.array(learner.adapt(examples[~asked], ways[~asked]).predict(examples[asked]))


def _of_embeddings(learner: Learner, z: Tensor, ways: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The same where every example is embedded once."""
    y = torch.as_tensor(ways, device=z.device)

    def predict(asked: np.ndarray) -> np.ndarray:
        kept, held = (torch.as_tensor(where, device=z.device) for where in (~asked, asked))
        with torch.no_grad():
            head = learner.method.head(learner.params, z[kept], y[kept], int(y.max()) + 1)
        return head.logits(z[held]).argmax(dim=1).cpu().numpy()

    return predict


def _scores(right: int, examples: int) -> dict[str, Any]:
    low, high = wilson(right, examples)
    return {"accuracy": right / examples, "low95": low, "high95": high, "examples": examples}


def wilson(right: int, examples: int) -> tuple[float, float]:
    """95% interval of a proportion: Wilson, Probable Inference, 1927. Sound at 0 and 1 too."""
    share, weight = right / examples, Z * Z / examples
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / examples + weight / examples / 4)
    return max(0.0, centre - half), min(1.0, centre + half)
