"""Figures to the digits that their intervals support: those beyond them change from one processor to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

POINTS = ("accuracy", "nll", "ece", "worst_decile")  # figures that have an interval
DECIMALS = 3  # of a figure without one: a tenth of a per cent, as figures are printed
SIGNIFICANT = 2  # digits of an interval's half width that mean something: JCGM 100:2008 (GUM), 7.2.6


def interval_names(point: str) -> tuple[str, str]:
    """The names of a figure's interval's ends; the accuracy's go without its name."""
    prefix = "" if point == "accuracy" else f"{point}_"
    return f"{prefix}low95", f"{prefix}high95"


def decimals(figures: Mapping[str, Any], point: str) -> int:
    """How many decimals of a figure its interval supports: two digits of the interval's half width.

    Args:
        figures: of one learner in one setting; what is not known is null or NaN.
        point: one of `POINTS`.
    """
    low, high = (figures.get(name) for name in interval_names(point))
    half = math.nan if low is None or high is None else (high - low) / 2
    if not half > 0:  # nor where it is NaN
        return DECIMALS
    return max(0, SIGNIFICANT - 1 - math.floor(math.log10(half)))


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """One learner's figures in one setting, each with its interval to the decimals that this supports."""
    found = dict(figures)
    for point in POINTS:
        digits = decimals(figures, point)
        for name in (point, *interval_names(point), *(["ci95"] if point == "accuracy" else [])):
            if figures.get(name) is not None:
                found[name] = round(figures[name], digits)
    return found


def plainly_rounded(value: Any) -> Any:
    """Every number in dicts to the decimals of a figure without an interval."""
    if isinstance(value, dict):
        return {name: plainly_rounded(each) for name, each in value.items()}
    return round(value, DECIMALS) if isinstance(value, float) else value
