"""95% intervals: the one home of their rules. An interval that cannot be had is NaN."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

from metaloom.system.certainty import ENOUGH_EPISODES, FEWEST_EPISODES

LEVELS = (2.5, 97.5)  # percentiles of a 95% interval
Z = 1.959964  # of the normal distribution, for a 95% interval
SPREAD = 1e-12  # of values: less is rounding


@cache
def resamples(episodes: int, samples: int, seed: int = 0) -> Float[np.ndarray, "sample episode"]:
    """How often each episode is in each bootstrap sample, over their number: weights that sum to one."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=samples) / episodes


def interval(drawn: Float[np.ndarray, " sample"], value: float, episodes: int) -> tuple[float, float]:
    """95%; NaN where there is none.

    From many episodes the percentiles of bootstrap samples. From fewer than `ENOUGH_EPISODES` these cover too little
    (76% from three): Student's t around the value, with the bootstrap's standard error, whose variance is short of the
    unbiased one by a factor of (episodes - 1) / episodes. None from fewer than `FEWEST_EPISODES`, where t is as wide
    as the scale, and none where all samples are the same: episodes without a spread do not tell how far the next one
    lies.

    Args:
        drawn: a figure of each bootstrap sample of the episodes.
        value: the figure of the episodes themselves.
        episodes: how many.
    """
    if episodes < FEWEST_EPISODES or not _spread(drawn):
        return float("nan"), float("nan")
    if episodes >= ENOUGH_EPISODES:
        low, high = np.percentile(drawn, LEVELS)
        return float(low), float(high)
    error = drawn.std() * np.sqrt(episodes / (episodes - 1))
    half = student(episodes) * float(error)
    return value - half, value + half


def mean_and_half_width(values: Float[np.ndarray, " episode"]) -> tuple[float, float]:
    """The mean and the half width of its 95% interval, Student's t; NaN where there is none (see `interval`)."""
    half = float("nan")
    if len(values) >= FEWEST_EPISODES and _spread(values):
        half = student(len(values)) * float(values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()), half


def _spread(values: Float[np.ndarray, " value"]) -> bool:
    return bool(len(values) and np.isfinite(values).all() and np.ptp(values) >= SPREAD)


def student(values: int) -> float:
    """How many standard errors a 95% interval of the mean of so many values reaches to each side: Student's t."""
    from scipy.special import stdtrit  # which most of those who read intervals do without

    return float(stdtrit(values - 1, LEVELS[1] / 100))
