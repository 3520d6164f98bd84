"""The figures of one learner in one setting, to the digits that their intervals support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaloom.system.rounding import decimals, rounded

POINTS = ("accuracy", "nll", "ece", "worst_decile")  # figures that have an interval


def interval_names(point: str) -> tuple[str, str]:
    """The names of the ends of a figure's interval; those of the accuracy's go without its name."""
    prefix = "" if point == "accuracy" else f"{point}_"
    return f"{prefix}low95", f"{prefix}high95"


def decimals_of(figures: Mapping[str, Any], point: str) -> int:
    """How many decimals of one of `POINTS` its interval supports; what is not known is null or NaN."""
    low, high = (figures.get(name) for name in interval_names(point))
    return decimals(None if low is None or high is None else (high - low) / 2)


def rounded_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Each of `POINTS` with its interval to the decimals that this supports, and the rest as it is."""
    found = dict(figures)
    for point in POINTS:
        digits, names = decimals_of(figures, point), [point, *interval_names(point)]
        names += ["ci95", "classes_low95", "classes_high95"] if point == "accuracy" else []
        found |= rounded({name: figures[name] for name in names if name in figures}, digits)
    return found
