"""Which of two bundles is better, as far as the labels say: the betting sequence of the judge, over labelled inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from metaloom.judging.decision import decide
from metaloom.judging.sequence import bounds
from metaloom.judging.shadow.log import Log
from metaloom.judging.verdict import OUTCOMES, Outcome, in_words
from metaloom.system.plural import several
from metaloom.system.quantities import percent, points

TAIL = 0.025  # of each end of a 95% interval


@dataclass(frozen=True)
class Standing:
    """What the labels say.

    Args:
        labelled: inputs.
        prod_right, candidate_right: how many of them each has right.
        outcome: of the candidate; what has been decided stays so.
        gain: the candidate's accuracy minus that of prod.
        low95, high95: ends of its interval, valid at any time.
        alpha: error that this takes.
    """

    labelled: int
    prod_right: int
    candidate_right: int
    outcome: Outcome
    gain: float
    low95: float
    high95: float
    alpha: float

    @classmethod
    def of(cls, log: Log, alpha: float, margin: float) -> Standing:
        """From a log.

        Args:
            log: with its labels.
            alpha: error that a decision may take.
            margin: a share of 1: a loss of less is none that matters.
        """
        right = _right(log)
        gains = right[:, 1:] - right[:, :1]
        low, high = bounds(gains, TAIL, margin)
        outcome = OUTCOMES[int(decide(gains, alpha, margin).outcome)] if len(gains) else "undecided"
        gain = float(gains.mean()) if len(gains) else 0.0
        one, other = right.sum(axis=0).astype(int).tolist()
        return cls(len(gains), one, other, outcome, gain, low, high, alpha)

    def sentence(self, log: Log, margin: float) -> str:
        """The same for a person."""
        lead = in_words(self.outcome, log.prod.name, log.candidate.name, margin, not self.alpha)
        gain, low, high = (points(each, None) for each in (self.gain, self.low95, self.high95))
        shares = " and ".join(percent(each / max(1, self.labelled)) for each in (self.candidate_right, self.prod_right))
        told = f"{gain} points (95% interval {low} to {high}), {several(self.labelled, 'labelled input')}"
        return f"{lead}: {told}, of which they have {shares} right"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _right(log: Log) -> Float[np.ndarray, "input 2"]:
    """Whether prod and candidate have each labelled input right, in the order of the labels."""
    rows = [[said == label for said in log.answers[sha256]] for sha256, label in log.labels.items()]
    return np.array(rows, dtype=float).reshape(-1, 2)
