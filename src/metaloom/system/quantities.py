"""Shares, times and sizes as they are written for a person."""

from __future__ import annotations

import math

Number = int | float  # JSON writes 1.0 as either

UNKNOWN = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def known(value: Number | None) -> bool:
    """Whether a figure is there: JSON's null and NaN both mean that it is not."""
    return value is not None and math.isfinite(value)


def percent(share: Number | None, digits: int = 1) -> str:
    """0.961 → "96.1%"."""
    return f"{100 * share:.{digits}f}%" if share is not None and known(share) else UNKNOWN


def digits_for(ci95: Number | None) -> int:
    """Decimals of a percentage that its interval deserves: a second one when it is under 0.05 points."""
    return 2 if ci95 is not None and known(ci95) and 0 < ci95 < 0.0005 else 1


def with_interval(share: Number | None, ci95: Number | None, unit: str = "%") -> str:
    """0.961, 0.004 → "96.1 ± 0.4%"; the half width of the interval is left out where it is not known."""
    if share is None or not known(share):
        return UNKNOWN
    if ci95 is None or not known(ci95):
        return f"{100 * share:.1f}{unit}"
    digits = digits_for(ci95)
    return f"{100 * share:.{digits}f} ± {100 * ci95:.{digits}f}{unit}"


def points(difference: Number | None, ci95: Number | None) -> str:
    """0.312, 0.009 → "+31.2 ± 0.9"; in percentage points."""
    if difference is None or not known(difference):
        return UNKNOWN
    sign = MINUS if difference < 0 else "+"
    return sign + with_interval(abs(difference), ci95, unit="")


def interval95(low: float, high: float) -> str:
    """0.942, 0.971 → "95% interval 94.2% to 97.1%"."""
    return f"95% interval {percent(low)} to {percent(high)}"


def from_to(low: Number | None, high: Number | None) -> str:
    """0.461, 0.762 → "46.1 to 76.2%"; "" where there is no interval."""
    return f"{100 * low:.1f} to {percent(high)}" if low is not None and known(low) else ""


def duration(seconds: Number) -> str:
    """3.21 → "3.2 s", 61.4 → "61 s", 192.4 → "3 min 12 s", 7260 → "2 h 1 min"."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(n_bytes: int) -> str:
    """Bytes as "1.5 MB" (powers of ten)."""
    if n_bytes >= 1_000_000:
        return f"{n_bytes / 1e6:,.1f} MB"
    return f"{n_bytes / 1e3:.1f} kB" if n_bytes >= 1000 else f"{n_bytes} B"
