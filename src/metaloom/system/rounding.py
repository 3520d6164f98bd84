"""Figures as they are written: to the digits that mean something, those beyond which change with the processor."""

from __future__ import annotations

import math
from typing import Any

DECIMALS = 3  # of a share or an NLL without an interval: a tenth of a per cent, as shares are printed
SIGNIFICANT = 2  # digits of an interval's half width that mean something: JCGM 100:2008 (GUM), 7.2.6


def decimals(half_width: float | None) -> int:
    """How many decimals of a figure the half width of its interval supports; None, NaN or zero: no interval."""
    if half_width is None or not half_width > 0:
        return DECIMALS
    return max(0, SIGNIFICANT - 1 - math.floor(math.log10(half_width)))


def rounded(value: Any, digits: int = DECIMALS) -> Any:
    """Every float to so many decimals, in dicts and lists too; what is no float as it is."""
    if isinstance(value, dict):
        return {name: rounded(each, digits) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each, digits) for each in value]
    return round(value, digits) if isinstance(value, float) else value


def nulled(value: Any) -> Any:
    """The same with None in place of every NaN, for figures that may not exist; in dicts, lists and tuples."""
    if isinstance(value, dict):
        return {name: nulled(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [nulled(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def is_finite(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False
