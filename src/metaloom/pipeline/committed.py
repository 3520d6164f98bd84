"""How a run's figures compare with those of the commit, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaloom.evaluation.digits import POINTS, decimals_of, interval_names
from metaloom.evaluation.headline import Scores
from metaloom.system.plural import some

NAMED = 2  # differences that the line names
LIMIT = 1 + 1e-6  # units of the last decimal that are rounding; the rest is for floating point


@dataclass(frozen=True)
class Change:
    """One figure that differs by more than rounding.

    Args:
        where: learner, setting and figure.
        before: as committed; None where there was none.
        now: likewise.
        units: how many of the last decimal that the intervals support lie between them.
        apart: whether the two have intervals that do not meet; git's headline figures have none, and stand alone.
    """

    where: str
    before: float | None
    now: float | None
    units: float
    apart: bool

    def __str__(self) -> str:
        before, now = ("none" if value is None else f"{value:g}" for value in (self.before, self.now))
        return f"{self.where} {before} → {now}"


def against_committed(committed: Scores, now: Scores) -> str:
    """Whether the figures are the committed ones; if not, how many differ, whether beyond their intervals, and which
    most. Differences of one unit in the last decimal that the intervals support are rounding. Figures that were not
    committed are not compared."""
    before, after = _by_place(committed), _by_place(now)
    both = before.keys() & after.keys()
    if not both:
        return "of other learners or settings than the committed ones"
    parts = []
    if all(_among(before[place], after[place]) for place in both):
        parts.append("the committed ones")
    elif changes := _changes(before, after):
        parts.append(_told(changes, sum(point in before[place] for place in both for point in POINTS)))
    else:
        parts.append("the committed ones, to rounding")
    for places, word in ((after.keys() - both, "not committed"), (before.keys() - both, "committed only")):
        if places:
            parts.append(f"{word}: {some(sorted(places), NAMED)}")
    return "; ".join(parts)


def _among(figures: Mapping[str, Any], more: Mapping[str, Any]) -> bool:
    """Whether all of them are the same among others; the other way round, git has figures that are measured no more."""
    return all(name in more and more[name] == value for name, value in figures.items())


def _by_place(scores: Scores) -> dict[str, Mapping[str, Any]]:
    return {f"{learner} {setting}": each for learner, own in scores.items() for setting, each in own.items()}


def _changes(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """Changes beyond the limit at the places that both have, the greatest first."""
    found = [
        change
        for place, figures in before.items()
        if place in after
        for point in POINTS
        if point in figures and (change := _change(f"{place} {point}", point, figures, after[place])).units > LIMIT
    ]
    return sorted(found, key=lambda change: (not change.apart, -change.units, change.where))


def _change(where: str, point: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Change:
    one, other = before.get(point), now.get(point)
    if one is None or other is None:
        return Change(where, one, other, 0.0 if one is other else float("inf"), False)
    unit = 10.0 ** -min(decimals_of(before, point), decimals_of(now, point))
    return Change(where, one, other, abs(one - other) / unit, _apart(point, before, now))


def _apart(point: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    low, high = interval_names(point)
    if now.get(low) is None or now.get(high) is None or before.get(low, 0) is None or before.get(high, 0) is None:
        return False
    return now[low] > before.get(high, before[point]) or now[high] < before.get(low, before[point])


def _told(changes: list[Change], figures: int) -> str:
    apart = sum(change.apart for change in changes)
    how = f"{apart} of them beyond their intervals" if apart else "all within their intervals"
    named = some([str(each) for each in changes], NAMED)
    return f"{len(changes)} of {figures} differ from the committed ones, {how}: {named}"
