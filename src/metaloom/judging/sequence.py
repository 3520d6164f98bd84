"""A confidence sequence for the mean of paired differences, valid whenever one stops.

Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting, 2023 (Journal of the Royal Statistical
Society B, https://arxiv.org/abs/2010.09686). Whoever bets against "the mean is at most m" starts with a capital of 1,
and each round multiplies it by the product of 1 + bet · (difference - m). Where the claim is true, no rule for the bets
makes the capital grow in the mean, so it ever reaches 1 / alpha with a probability of at most alpha (Ville, 1939).

A round has one difference of each domain, and one bet, made before it. The domains may differ in their means: the
capital's expected factor is the product of 1 + bet · (mean of the domain - m), which by the inequality of arithmetic
and geometric means is at most 1 where the mean over the domains is at most m.

The bet is Kelly's for what was seen so far, gain / (variance + gain²), for no smaller gain than the one that matters
(Grünwald, de Heide, Koolen: Safe testing, 2024): it decides how soon a true gain is found, never whether the test is
valid.

Letters of a shape: `round`, `domain`; any axes may stand in front. Differences of accuracies, each from -1 to 1.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Side = Literal[1, -1]  # 1: against "at most m", for a gain; -1: against "at least m", for a loss

LARGEST = 0.98  # of the bet at which one difference of -1 could lose all
SPREAD = 0.1  # standard deviation that the first bets take for true,
WEIGHT = 10  # as if so many episodes had shown it
UNIT = 10_000  # an interval's ends are to one part in so many
STEPS = 40, 1  # of the means that are tried for one: the large step first
AT_A_TIME = 40  # of them: bounds memory


def log_wealth(
    differences: Float[np.ndarray, "*any round domain"], mean: float | np.ndarray, side: Side, smallest: float
) -> Float[np.ndarray, "*more round"]:
    """The logarithm of the capital after each round of betting against a claim.

    Args:
        differences: of each round and domain.
        mean: m, between -1 and 1; several as an array whose last two axes have one entry.
        side: against which claim.
        smallest: gain over m that matters, above 0: bets are for no smaller one.
    """
    over = side * (differences - mean)
    largest = LARGEST / (1 + side * mean)
    bets = _bets(over, largest[..., 0] if isinstance(largest, np.ndarray) else largest, smallest)
    return np.log1p(bets[..., None] * over).sum(axis=-1).cumsum(axis=-1)


def _bets(
    over: Float[np.ndarray, "*any round domain"], largest: float | np.ndarray, smallest: float
) -> Float[np.ndarray, "*any round"]:
    """What is bet in each round: by the rounds before it alone."""
    rounds, domains = over.shape[-2:]
    seen = domains * np.arange(rounds)
    total, squares = (_before(each.sum(axis=-1)) for each in (over, over * over))
    gain = total / (seen + WEIGHT)
    variance = (WEIGHT * SPREAD**2 + squares - gain * total) / (seen + WEIGHT)
    gain = np.maximum(gain, smallest)
    return np.minimum(gain / (variance + gain * gain), largest)


def _before(values: Float[np.ndarray, "*any round"]) -> Float[np.ndarray, "*any round"]:
    """The sum of all rounds before each."""
    sums = np.zeros_like(values)
    np.cumsum(values[..., :-1], axis=-1, out=sums[..., 1:])
    return sums


def shown(
    differences: Float[np.ndarray, "*any round domain"],
    mean: float | np.ndarray,
    side: Side,
    alpha: float,
    smallest: float,
) -> Bool[np.ndarray, "*more round"]:
    """Whether the claim has been refuted by the end of each round, with a probability of error of at most alpha over
    all rounds together.

    Args:
        differences: of each round and domain.
        mean: as `log_wealth` takes it.
        side: 1: shows that the mean is above m; -1: below.
        alpha: 0 shows nothing.
        smallest: as `log_wealth` takes it.
    """
    bar = math.log(1 / alpha) if alpha > 0 else math.inf
    return np.logical_or.accumulate(log_wealth(differences, mean, side, smallest) >= bar, axis=-1)


def bounds(differences: Float[np.ndarray, "round domain"], alpha: float, smallest: float) -> tuple[float, float]:
    """Ends of the interval for the mean over the domains: each is missed with a probability of at most alpha, whenever
    one stops; from -1 to 1.

    Args:
        differences: of all rounds so far.
        alpha: of each end: an interval of 95% takes 0.025.
        smallest: as `log_wealth` takes it.
    """
    return -_upper(-differences, alpha, smallest), _upper(differences, alpha, smallest)


def _upper(differences: Float[np.ndarray, "round domain"], alpha: float, smallest: float) -> float:
    """The smallest mean that this, and all above it on a grid with 0 on it, have been shown not to be."""
    high = UNIT
    for step in STEPS if differences.size else ():
        while high > step - UNIT:
            tried = np.arange(high - step, max(high - step * AT_A_TIME, -UNIT) - 1, -step)
            below = shown(differences, tried[:, None, None] / UNIT, -1, alpha, smallest)[:, -1]
            passed = len(tried) if below.all() else int(below.argmin())
            high = int([high, *tried][passed])
            if passed < len(tried):
                break
    return high / UNIT
