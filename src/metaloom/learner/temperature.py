"""How sure a task model is: one temperature for tasks of every shape, chosen on validation episodes.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017 (https://arxiv.org/abs/1706.04599),
section 4.2: logits divided by T keep every answer and can be as sure as they ought to be. A few-shot model's logits
grow with its shots, and a task of one's own has other ways and shots than any episode, so T is a function of both:
log T = level + shot · log n_shot + way · log n_way, fitted to the NLL of the validation episodes of all settings.
Where classes have uneven numbers of examples, the mean of log n_shot over them counts: on validation classes of the
embedded data set the NLL of such tasks is 0.2 to 6.4% less than with the logarithm of the mean (protonet and maml, four
shapes each).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metaloom.system.rounding import is_finite

MOST = 50.0  # of a saved level or slope: T is the exponential of such numbers
WEIGHTS = np.array([1e-4, 1e-3, 1e-3])  # of squares in what is minimised: settle what the settings at hand leave open


class LabelledLogits(NamedTuple):
    """Answers to the episodes of one setting."""

    n_way: int
    n_shot: float
    logits: Float[np.ndarray, "query n_way"]
    labels: Int[np.ndarray, " query"]


@dataclass(frozen=True)
class Temperature:
    """`ways` and `shots` are the range that it was fitted on: outside it the nearest end counts."""

    level: float = 0.0
    shot: float = 0.0
    way: float = 0.0
    shots: tuple[float, float] = (1.0, 1.0)
    ways: tuple[float, float] = (2.0, 2.0)

    def __call__(self, n_way: int, n_shot: float) -> float:
        """T of a task in which every class has `n_shot` examples; see `of_task` for others."""
        shot, way = (
            math.log(min(max(value, low), high)) for value, (low, high) in ((n_shot, self.shots), (n_way, self.ways))
        )
        return math.exp(self.level + self.shot * shot + self.way * way)

    def of_task(
        self, labels: Int[np.ndarray, " support"], n_way: int, weights: Float[np.ndarray, " support"] | None = None
    ) -> float:
        """T of a task whose support examples have these labels, whole numbers below `n_way`; each counts as often as
        its weight says."""
        counts = np.bincount(labels, weights, minlength=n_way)
        return self(n_way, math.exp(np.log(counts[counts > 0]).mean()))

    @classmethod
    def fitted(cls, answers: Sequence[LabelledLogits]) -> Temperature:
        """The least mean NLL; every setting weighs the same. What is not finite does not count; without answers, 1."""
        answers = [_finite(each) for each in answers if np.isfinite(each.logits).all(axis=1).any()]
        if not answers:
            return cls()
        from scipy.optimize import minimize  # which those who only load a learner do without

        shapes = np.log([(each.n_shot, each.n_way) for each in answers])
        features = np.column_stack([np.ones(len(answers)), shapes])
        doubles = [each.logits.astype(np.float64) for each in answers]

        def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
            parts = [_nll(z, a.labels, t) for z, a, t in zip(doubles, answers, features @ theta, strict=True)]
            nll, slope = np.array(parts).T
            return nll.mean() + WEIGHTS @ theta**2, slope @ features / len(answers) + 2 * WEIGHTS * theta

        theta = minimize(cost, np.zeros(3), jac=True, method="BFGS").x
        low, high = np.exp(shapes.min(axis=0)), np.exp(shapes.max(axis=0))
        level, shot, way = theta.tolist()
        return cls(level, shot, way, (float(low[0]), float(high[0])), (float(low[1]), float(high[1])))

    @classmethod
    def read(cls, saved: dict[str, Any]) -> Temperature:
        """From what `saved` gave.

        Raises:
            ValueError: a number is none, or so large that T would be.
        """
        if not isinstance(saved, dict) or not saved.keys() <= asdict(cls()).keys():
            raise ValueError(f"temperature is {saved}")
        for name, value in saved.items():
            if not (_is_range(value) if name in ("shots", "ways") else is_finite(value) and abs(value) <= MOST):
                raise ValueError(f"temperature.{name} is {str(value)[:40]}")
        ranges: dict[str, Any] = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
        return cls(**saved | ranges)

    def saved(self) -> dict[str, Any]:
        """As plain values for learner.json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _is_range(value: Any) -> bool:
    """Two numbers from 1 on, the second not below the first."""
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_finite, value)):
        return False
    return 1 <= value[0] <= value[1]


def _finite(answered: LabelledLogits) -> LabelledLogits:
    kept = np.isfinite(answered.logits).all(axis=1)
    return answered._replace(logits=answered.logits[kept], labels=answered.labels[kept])


def _nll(logits: np.ndarray, labels: np.ndarray, log_t: float) -> tuple[float, float]:
    """Mean NLL of logits / T, and its slope in log T."""
    from scipy.special import logsumexp

    z = logits * math.exp(-log_t)
    log_p = z - logsumexp(z, axis=1, keepdims=True)
    own = np.arange(len(labels)), labels
    slope = z[own] - (np.exp(log_p) * z).sum(axis=1)
    return float(-log_p[own].mean()), float(slope.mean())
