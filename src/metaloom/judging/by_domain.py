"""What both said, domain by domain: the gain in each, and where the challenger is worse beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from metaloom.evaluation.figures import Answers
from metaloom.judging.asking import gains

TAIL = 0.025  # of each end of a 95% interval
FEWEST = 5  # rounds that a test takes: differences in steps of a query are all the same by chance in fewer


@dataclass(frozen=True)
class ByDomain:
    """Answers of both to the same episodes, of which each round has one of each domain.

    Args:
        domains: in the order in which each round asks them.
        champion, challenger: their answers.
    """

    domains: Sequence[str]
    champion: Answers
    challenger: Answers

    @cached_property
    def differences(self) -> Float[np.ndarray, "round domain"]:
        """Accuracy of the challenger minus that of the champion."""
        return self._in_rounds(gains(self.champion, self.challenger))

    def worst(self, margin: float) -> tuple[str, float] | None:
        """The domain with the largest loss, and its gain, of those with a loss beyond the margin.

        A domain is one of them by a one-sided t-test at 5% over all domains (Bonferroni).
        """
        lost = highest(self.differences) < -margin
        if not lost.any():
            return None
        means = self.differences.mean(axis=0)
        worst = int(np.where(lost, means, np.inf).argmin())
        return self.domains[worst], float(means[worst])

    def figures(self) -> list[dict[str, Any]]:
        """Gain by domain, with the 95% interval of Student's t."""
        differences, rounds = self.differences, len(self.differences)
        spread = differences.std(axis=0, ddof=1) if rounds > 1 else np.full(differences.shape[1], np.nan)
        halves = stats.t.ppf(1 - TAIL, max(1, rounds - 1)) * spread / math.sqrt(rounds)
        answers = (self.champion, self.challenger)
        of_each = [self._in_rounds(np.nan_to_num(each.accuracy)).mean(axis=0) for each in answers]
        rows = zip(self.domains, differences.mean(axis=0).tolist(), halves.tolist(), *of_each, strict=True)
        return [
            {"domain": domain, "gain": gain, "low95": gain - half, "high95": gain + half}
            | {"champion": float(one), "challenger": float(other), "episodes": rounds}
            for domain, gain, half, one, other in rows
        ]

    def _in_rounds(self, values: Float[np.ndarray, " episode"]) -> Float[np.ndarray, "round domain"]:
        return values.reshape(-1, len(self.domains))


def highest(differences: Float[np.ndarray, "round column"]) -> Float[np.ndarray, " column"]:
    """Upper ends of one-sided intervals for the means of the columns (Student's t), which hold together with a
    probability of 95% (Bonferroni); infinite where the rounds are too few."""
    rounds, columns = differences.shape
    if rounds < FEWEST:
        return np.full(columns, np.inf)
    errors = differences.std(axis=0, ddof=1) / math.sqrt(rounds)
    return differences.mean(axis=0) + stats.t.ppf(1 - 0.05 / columns, rounds - 1) * errors
