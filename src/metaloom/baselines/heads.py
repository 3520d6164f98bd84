"""scikit-learn on rows of features: flattened inputs, or embeddings of a frozen network.

Each is `fit(choice, x, y, seed) → predict`, and `predict(queries) → scores`, whose softmax are probabilities once they
are divided by a temperature. What is learned takes `predict.size` bytes.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.svm import LinearSVC

Rows = Float[np.ndarray, "row feature"]
Labels = Int[np.ndarray, " row"]
Scores = Float[np.ndarray, "row n_way"]
Choice = dict[str, Any]

TINY = 1e-6  # of the largest eigenvalue: directions with less are rounding
FLOAT = 4  # bytes
BALANCED = "balanced"  # classes count alike, however many examples each has


@dataclass(frozen=True)
class Fitted:
    """A model of one task, of features or of examples as a network takes them."""

    scores: Callable[[np.ndarray], Scores]
    size: int

    def __call__(self, x: Float[np.ndarray, "row ..."]) -> Scores:
        """The scores of some rows."""
        return self.scores(x)


def logistic(choice: Choice, x: Rows, y: Labels, seed: int) -> Fitted:
    """Logistic regression, L2-regularised."""
    weight, bias = linear_head(choice["C"], x, y)
    return Fitted(lambda queries: queries @ weight.T + bias, linear_size(x, y))


def linear_head(
    inverse_penalty: float, x: Rows, y: Labels
) -> tuple[Float[np.ndarray, "n_way feature"], Float[np.ndarray, " n_way"]]:
    """Weight and bias of a logistic regression, for two classes too."""
    basis = span(x)
    model = LogisticRegression(C=inverse_penalty, class_weight=BALANCED, max_iter=1000).fit(x @ basis, y)
    weight, bias = model.coef_ @ basis.T, model.intercept_
    if len(bias) == 1:  # of the second class against the first
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def svm(choice: Choice, x: Rows, y: Labels, seed: int) -> Fitted:
    """Linear support vector machine, one class against the rest; scores are distances to the planes."""
    basis = span(x)
    model = LinearSVC(C=choice["C"], class_weight=BALANCED, max_iter=20_000, random_state=seed).fit(x @ basis, y)

    def scores(queries: Rows) -> Scores:
        found = model.decision_function(queries @ basis)
        return found if found.ndim == 2 else np.column_stack([-found, found])

    return Fitted(scores, linear_size(x, y))


def neighbour(choice: Choice, x: Rows, y: Labels, seed: int) -> Fitted:
    """The nearest example's class; a class's score is minus its nearest example's distance."""

    def scores(queries: Rows) -> Scores:
        far = pairwise_distances(queries, x, metric=choice["metric"])
        return -np.column_stack([far[:, y == way].min(axis=1) for way in range(y.max() + 1)])

    return Fitted(scores, FLOAT * x.size)


def forest(choice: Choice, x: Rows, y: Labels, seed: int) -> Fitted:
    """Random forest; scores are log shares of the trees' votes, none of them zero."""
    trees = choice["trees"]
    model = RandomForestClassifier(trees, max_features=choice["max_features"], class_weight=BALANCED, random_state=seed)
    model.fit(x, y)
    floor = 1 / (trees + y.max() + 1)
    return Fitted(lambda queries: np.log(model.predict_proba(queries) + floor), len(pickle.dumps(model)))


def span(x: Rows) -> Float[np.ndarray, "feature basis"]:
    """An orthonormal basis of what the rows span. A linear model with an L2 penalty has its weights in it, and turning
    the axes changes nothing, so it can be fitted to x @ span(x): few numbers per row instead of hundreds."""
    if len(x) >= x.shape[1]:
        return np.eye(x.shape[1], dtype=x.dtype)
    value, vector = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = value > TINY * value.max()
    return (x.T @ (vector[:, kept] / np.sqrt(value[kept]))).astype(x.dtype)


def linear_size(x: Rows, y: Labels) -> int:
    """Bytes of a linear head."""
    return FLOAT * int(y.max() + 1) * (x.shape[1] + 1)
