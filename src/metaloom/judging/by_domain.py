"""What both said, domain by domain: who gained, and where the challenger has lost for sure."""

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

TAIL = 0.025  # of each end of a 95% interval
FEWEST = 5  # rounds that a test takes: differences in steps of a query are all the same by chance in fewer


@dataclass(frozen=True)
class ByDomain:
    """Answers of both, one episode of each domain after the other, round by round.

    Args:
        domains: of a round.
        champion, challenger: answers to the same episodes.
    """

    domains: Sequence[str]
    champion: Answers
    challenger: Answers

    @cached_property
    def differences(self) -> Float[np.ndarray, "round domain"]:
        """Accuracy of the challenger minus that of the champion."""
        one, other = self._accuracies
        return other - one

    @property
    def _accuracies(self) -> tuple[Float[np.ndarray, "round domain"], Float[np.ndarray, "round domain"]]:
        """An episode that one of them failed is all wrong."""
        sides = (np.nan_to_num(each.accuracy) for each in (self.champion, self.challenger))
        one, other = (each.reshape(-1, len(self.domains)) for each in sides)
        return one, other

    def worst(self, margin: float) -> tuple[str, float] | None:
        """Of the domains with a loss beyond the margin, as a one-sided t-test at 5% over all domains has it
        (Bonferroni), the one that has lost most, with its gain; None where there is none."""
        means, lost = self.differences.mean(axis=0), highest(self.differences) < -margin
        if not lost.any():
            return None
        worst = int(np.where(lost, means, np.inf).argmin())
        return self.domains[worst], float(means[worst])

    def figures(self) -> list[dict[str, Any]]:
        """Gain by domain, with the 95% interval of Student's t."""
        differences, rounds = self.differences, len(self.differences)
        spread = differences.std(axis=0, ddof=1) if rounds > 1 else np.full(differences.shape[1], np.nan)
        halves = stats.t.ppf(1 - TAIL, max(1, rounds - 1)) * spread / math.sqrt(rounds)
        of_each = [each.mean(axis=0) for each in self._accuracies]
        rows = zip(self.domains, differences.mean(axis=0).tolist(), halves.tolist(), *of_each, strict=True)
        return [
            {"domain": domain, "gain": gain, "low95": gain - half, "high95": gain + half}
            | {"champion": float(one), "challenger": float(other), "episodes": rounds}
            for domain, gain, half, one, other in rows
        ]


def highest(differences: Float[np.ndarray, "round column"]) -> Float[np.ndarray, " column"]:
    """Upper ends of the means: each is above its own, all of them with a probability of 95% (Student's t, one-sided,
    Bonferroni); infinite where the rounds are too few."""
    rounds, columns = differences.shape
    if rounds < FEWEST:
        return np.full(columns, np.inf)
    errors = differences.std(axis=0, ddof=1) / math.sqrt(rounds)
    return differences.mean(axis=0) + stats.t.ppf(1 - 0.05 / columns, rounds - 1) * errors
