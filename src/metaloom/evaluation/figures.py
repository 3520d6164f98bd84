"""Figures of one learner in one setting, with their 95% intervals over episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from metaloom.evaluation.digits import POINTS, interval_names
from metaloom.learner.intervals import interval, resamples
from metaloom.tasks import EpisodeTable

BINS = 15  # of a calibration error
DECILE = 0.1


@dataclass(frozen=True)
class Answers:
    """What one learner said to one set of episodes.

    Args:
        log_p: log-probabilities; NaN in episodes that it failed.
        table: the episodes.
    """

    log_p: Float[np.ndarray, "episode query n_way"]
    table: EpisodeTable

    @property
    def failed(self) -> Bool[np.ndarray, " episode"]:
        """Whether the learner failed, for each episode."""
        return np.logical_not(np.isfinite(self.log_p).all(axis=(1, 2)))

    @property
    def right(self) -> Bool[np.ndarray, "episode query"]:
        """Whether each answer is right."""
        return self.log_p.argmax(axis=2) == self.table.answers

    @property
    def accuracy(self) -> Float[np.ndarray, " episode"]:
        """NaN where it failed."""
        return np.where(self.failed, np.nan, self.right.mean(axis=1))

    @property
    def nll(self) -> Float[np.ndarray, " episode"]:
        """Mean over the queries, in nats; NaN where it failed."""
        own = np.take_along_axis(self.log_p, self.table.answers[None, :, None], axis=2)
        return -own[..., 0].astype(np.float64).mean(axis=1)

    @property
    def kept(self) -> Answers:
        """Without the episodes that it failed."""
        return self.only(~self.failed)

    def only(self, chosen: Bool[np.ndarray, " episode"]) -> Answers:
        """Some of the episodes."""
        table = self.table
        return Answers(self.log_p[chosen], EpisodeTable(table.support[chosen], table.query[chosen], table.shots))

    def first(self, episodes: int) -> Answers:
        """The first so many episodes."""
        return Answers(self.log_p[:episodes], self.table.first(episodes))


def share_interval(drawn: Float[np.ndarray, " sample"], value: float, episodes: int) -> tuple[float, float]:
    """`interval` of a share: no less than 0 and no more than 1."""
    low, high = np.clip(interval(drawn, value, episodes), 0, 1)
    return float(low), float(high)


def figures(answers: Answers, samples: int) -> dict[str, Any]:
    """Accuracy, NLL, calibration error and worst decile of the episodes that were answered, and how many were not."""
    kept = answers.kept
    asked, failed = len(answers.table), int(answers.failed.sum())
    if not len(kept.table):
        nothing = dict.fromkeys(FIGURES, float("nan"))
        return {**nothing, "ci95": float("nan"), "episodes": 0, "failed": failed}
    weights = resamples(len(kept.table), samples)
    accuracy, nll = kept.accuracy, kept.nll
    found: dict[str, Any] = {}
    for name, value, drawn in (
        ("accuracy", accuracy.mean(), weights @ accuracy),
        ("nll", nll.mean(), weights @ nll),
        ("ece", *calibration_error(kept, weights)),
        ("worst_decile", worst_decile(accuracy), _worst_deciles(accuracy, weights)),
    ):
        low, high = interval(drawn, float(value), len(kept.table))
        if name == "accuracy":
            found["ci95"] = (high - low) / 2
        most = np.inf if name == "nll" else 1.0
        ends = zip(interval_names(name), (max(low, 0.0), min(high, most)), strict=True)
        found |= {name: float(value), **dict(ends)}
    return {**found, "episodes": asked - failed, "failed": failed}


FIGURES = tuple(name for figure in POINTS for name in (figure, *interval_names(figure)))


def worst_decile(accuracy: Float[np.ndarray, " episode"]) -> float:
    """Mean accuracy of the worst tenth of the episodes, at least of one."""
    return float(np.sort(accuracy)[: max(1, round(DECILE * len(accuracy)))].mean())


def _worst_deciles(
    accuracy: Float[np.ndarray, " episode"], weights: Float[np.ndarray, "sample episode"]
) -> Float[np.ndarray, " sample"]:
    """The same of each bootstrap sample."""
    order = accuracy.argsort(kind="stable")
    count = np.rint(weights[:, order] * len(accuracy))
    most = max(1, round(DECILE * len(accuracy)))
    taken = np.diff(np.minimum(count.cumsum(axis=1), most), axis=1, prepend=0)
    return taken @ accuracy[order] / most


@dataclass(frozen=True)
class Reliability:
    """Queries in bins of equal number by confidence: how sure the answers are, and how often they are right.

    Each entry is a sum over the queries of one episode in one bin.
    """

    confidence: Float[np.ndarray, "episode bin"]
    right: Float[np.ndarray, "episode bin"]
    count: Int[np.ndarray, "episode bin"]

    @classmethod
    def of(cls, answers: Answers, bins: int = BINS) -> Reliability:
        """Answers sorted into bins by how sure they are."""
        confidence = np.exp(answers.log_p.max(axis=2).astype(np.float64))
        place = np.empty(confidence.size, dtype=int)
        place[confidence.ravel().argsort(kind="stable")] = np.arange(confidence.size) * bins // confidence.size
        cell = place.reshape(confidence.shape) + bins * np.arange(len(confidence))[:, None]
        sums = [
            np.bincount(cell.ravel(), weights, minlength=bins * len(confidence)).reshape(-1, bins)
            for weights in (confidence.ravel(), answers.right.ravel().astype(float), None)
        ]
        return cls(sums[0], sums[1], sums[2].astype(int))

    def error(self, weights: Float[np.ndarray, "sample episode"]) -> Float[np.ndarray, " sample"]:
        """Mean absolute gap between how sure and how often right, over queries, for weighted episodes."""
        gap = np.abs(weights @ (self.confidence - self.right))
        return gap.sum(axis=1) / (weights @ self.count.sum(axis=1))

    def table(self) -> pd.DataFrame:
        """One row per bin: bin, confidence, accuracy, share of the queries."""
        count = self.count.sum(axis=0)
        means = {
            "confidence": self.confidence.sum(axis=0) / np.maximum(count, 1),
            "accuracy": self.right.sum(axis=0) / np.maximum(count, 1),
        }
        rows = pd.DataFrame({"bin": range(len(count)), **means, "share": count / count.sum()})
        return rows[count > 0]


def calibration_error(
    answers: Answers, weights: Float[np.ndarray, "sample episode"]
) -> tuple[float, Float[np.ndarray, " sample"]]:
    """Expected calibration error with bins of equal number (Nixon, Dusenberry, Zhang, Jerfel, Tran: Measuring
    Calibration in Deep Learning, 2019, https://arxiv.org/abs/1904.01685), of all episodes and of each bootstrap
    sample."""
    reliability = Reliability.of(answers)
    everything = np.full((1, len(answers.table)), 1 / len(answers.table))
    return float(reliability.error(everything)[0]), reliability.error(weights)


def by_domain(answers: Answers, domains: Int[np.ndarray, " item"], samples: int) -> pd.DataFrame:
    """Accuracy on the queries of each domain, with its interval: code (of the domain), accuracy, low95, high95,
    queries.

    Args:
        answers: of the episodes that were answered, one or more.
        domains: the code of each row of the data set.
        samples: of the bootstrap.
    """
    code, right = domains[answers.table.query_rows], answers.right
    weights, rows = resamples(len(code), samples), []
    for each in np.unique(code):
        asked, known = (code == each).sum(axis=1), ((code == each) & right).sum(axis=1)
        drawn, accuracy = weights @ asked, known.sum() / asked.sum()
        shares = (weights @ known)[drawn > 0] / drawn[drawn > 0]
        low, high = share_interval(shares, accuracy, int((asked > 0).sum()))
        rows.append((int(each), accuracy, low, high, int(asked.sum())))
    return pd.DataFrame(rows, columns=["code", "accuracy", "low95", "high95", "queries"])
