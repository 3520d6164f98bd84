"""One kind of chart for all that has two axes: lines, points, or both.

As in `marks`, x is a percentage of the width and y is in pixels, so that a chart is as wide as its place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from metaloom.report.charts.marks import draw_line, draw_text, svg
from metaloom.system.quantities import Number

RIGHT = 74  # per cent of the width that the plot takes where lines have names beside their ends
LEFT = 12  # per cent, where the words of the lines stand
TOP = 12
NARROW = 300  # pixels of a chart on a phone
MARK = 19  # pixels between two numbered marks
LINE = 17  # pixels between two names
Places = list[tuple[Number, Number]]
Ticks = Sequence[tuple[Number, str]]


@dataclass(frozen=True)
class Plane:
    """Where the plot lies in a chart: it ends at `width` (per cent) and `bottom` (pixels), and its values at `low` and
    `high`."""

    width: Number
    bottom: Number
    low: Number
    high: Number

    def at(self, x: Number, value: Number) -> tuple[float, float]:
        """Per cent and pixels of a share of the width and a value; beyond the axis as at its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return LEFT + (self.width - LEFT) * x, self.bottom - (self.bottom - TOP) * share


@dataclass(frozen=True)
class Series:
    """Points of one learner.

    Args:
        label: beside the end of its line, where it is not faint.
        points: x as a share of the width, and the value.
        role: "champion", "meta" or "single": its colour.
        faint: behind the others, and without a name.
        dots: whether each point is marked, and `line` whether they are joined.
        number: stands in the dot, for a key below the chart.
        whiskers: ends of the interval of each point; NaN where there is none.
    """

    label: str
    points: Places
    role: str
    faint: bool = False
    dots: bool = True
    line: bool = True
    number: int | None = None
    whiskers: list[tuple[Number, Number]] = field(default_factory=list)


def xy_chart(
    series: Sequence[Series],
    x_ticks: Ticks,
    y_ticks: Ticks,
    summary: str,
    *,
    x_label: str = "",
    height: int = 250,
    named: bool = True,
    diagonal: bool = False,
    arrow: tuple[Number, Number, Number, str] | None = None,
) -> Markup:
    """A chart of several series.

    Args:
        series: the faint ones are drawn first.
        x_ticks: places as shares of the width, with their text.
        y_ticks: values with their text, ascending; the first and last are the ends of the axis.
        summary: what a screen reader says.
        x_label: under the axis.
        height: pixels.
        named: whether the lines' names stand to the right of them.
        diagonal: a line from corner to corner, where x and y are the same.
        arrow: from x to x at a value, with a text.
    """
    plane = Plane(RIGHT if named else 97, height - 40, y_ticks[0][0], y_ticks[-1][0])
    parts = _axes(plane, x_ticks, y_ticks, x_label)
    if diagonal:
        parts.append(draw_line(*plane.at(0, plane.low), *plane.at(1, plane.high), "chance"))
    numbered = [each for each in series if each.number]
    heights = _apart([plane.at(*each.points[0]) for each in numbered])
    lower = dict(zip((each.label for each in numbered), heights, strict=True))
    for each in sorted(series, key=lambda each: not each.faint):
        parts += _numbered(each, plane, lower[each.label]) if each.number else _drawn(each, plane)
    if arrow:
        parts += _arrow(arrow, plane)
    if named:
        parts += _names([each for each in series if not each.faint and each.points], plane)
    return svg(parts, height, summary, "xy")


def _axes(plane: Plane, x_ticks: Ticks, y_ticks: Ticks, x_label: str) -> list[Markup]:
    """Lines and words of the axes."""
    parts = []
    for value, words in y_ticks:
        _, y = plane.at(0, value)
        parts += [draw_line(0, y, plane.width, y, "grid"), draw_text(0, y - 4, words, "tick")]
    for x, words in x_ticks:
        place, _ = plane.at(x, plane.low)
        anchor = "start" if x < 0.05 else "end" if x > 0.95 else "middle"
        parts.append(draw_text(place, plane.bottom + 16, words, "tick", anchor))
    if x_label:
        parts.append(draw_text(plane.width / 2, plane.bottom + 33, x_label, "tick", "middle"))
    return parts


def _drawn(series: Series, plane: Plane) -> list[Markup]:
    kind = f"{series.role}{' faint' if series.faint else ''}"
    places = [plane.at(*point) for point in series.points]
    parts = []
    if series.line:
        parts += [draw_line(*start, *end, f"path {kind}") for start, end in itertools.pairwise(places)]
    measured = [ends for ends in zip(series.points, series.whiskers, strict=False) if all(map(math.isfinite, ends[1]))]
    parts += [
        draw_line(*plane.at(x, low), *plane.at(x, high), f"whisker thin {kind}") for (x, _), (low, high) in measured
    ]
    if series.dots:
        parts += [_mark(kind, x, y, 3.5, series.label) for x, y in places]
    return parts


def _mark(kind: str, x: Number, y: Number, radius: Number, label: str) -> Markup:
    mark = Markup('<circle class="mark {}" cx="{:.2f}%" cy="{:.1f}" r="{}"><title>{}</title></circle>')
    return mark.format(kind, x, y, radius, label)


def _numbered(series: Series, plane: Plane, lower: Number) -> list[Markup]:
    """One point as its number, which hangs from it where others stand in its place."""
    x, y = plane.at(*series.points[0])
    parts = [draw_line(x, y, x, lower, f"stem {series.role}"), _mark(series.role, x, y, 2, series.label)]
    parts = parts if lower > y else []
    number = draw_text(x, lower + 4, str(series.number), f"number {series.role}", "middle")
    return [*parts, _mark(series.role, x, lower, 9, series.label), number]


def _apart(places: Sequence[tuple[float, float]]) -> list[float]:
    """Heights at which marks do not cover each other in a narrow chart: each as it is, or lower."""
    taken: list[tuple[float, float]] = []
    heights = [0.0] * len(places)
    for index in sorted(range(len(places)), key=lambda index: places[index][1]):
        x, y = places[index]
        beside = sorted(at for other, at in taken if abs(other - x) * NARROW / 100 < MARK)
        for at in beside:
            y = at + MARK if abs(at - y) < MARK else y
        taken.append((x, y))
        heights[index] = y
    return heights


def _names(series: Sequence[Series], plane: Plane) -> list[Markup]:
    """Each at the height of its line's end, pushed apart where they would meet."""
    ends = sorted(((plane.at(*each.points[-1])[1], each) for each in series), key=lambda end: end[0])
    parts, last = [], float("-inf")
    for y, each in ends:
        last = max(y + 4, last + LINE)
        parts.append(draw_text(plane.width + 2, last, each.label, f"name {each.role}"))
    return parts


def _arrow(arrow: tuple[Number, Number, Number, str], plane: Plane) -> list[Markup]:
    start, end, value, words = arrow
    (x1, y), (x2, _) = plane.at(start, value), plane.at(end, value)
    return [
        draw_line(x1, y, x2, y, "gap"),
        draw_line(x2, y - 5, x2, y + 5, "gap end"),
        draw_text((x1 + x2) / 2, y + 18, words, "note", "middle"),
    ]
