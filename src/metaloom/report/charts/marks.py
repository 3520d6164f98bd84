"""Charts as inline SVG.

Positions along x are percentages of the width and those along y pixels, so a chart is as wide as its place
while its text keeps its size. Colours are classes that the style sheet fills from variables (light and dark).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from metaloom.system.quantities import Number

TEXT = 13  # pixels
ROW = 38
FEW = 30  # points of a curve that are each marked


@dataclass(frozen=True)
class Dot:
    """One learner's row: what it is called, its value with half-interval (shares), and how it looks."""

    label: str
    value: Number
    ci95: Number | None
    text: str
    role: str  # "champion", "meta" or "single"


@dataclass(frozen=True)
class Gap:
    """The distance between two rows' values, drawn in the row of the lower one."""

    row: int
    start: Number
    end: Number
    text: str


def dot_plot(dots: Sequence[Dot], chance: Number, summary: str, gap: Gap | None = None) -> Markup:
    """Accuracies on one scale from 0 to 100%, each a line from chance to its dot, with its interval."""
    step = ROW + 12 if gap else ROW
    axis = step * len(dots) + 4
    parts = [draw_line(50, 0, 50, axis, "grid"), draw_line(100, 0, 100, axis, "grid")]
    parts.append(draw_line(100 * chance, 0, 100 * chance, axis, "chance"))
    for index, dot in enumerate(dots):
        parts.extend(_dot_row(dot, step * index, chance))
    if gap:
        parts.extend(_gap(gap, step * gap.row + 27))
    parts.append(draw_text(100 * chance, axis + 16, f"chance {100 * chance:.0f}%", "tick"))
    for at, label, anchor in ((50, "50%", "middle"), (100, "100%", "end")):
        if at - 100 * chance > 40:  # room for the word chance in a narrow chart
            parts.append(draw_text(at, axis + 16, label, "tick", anchor))
    return svg(parts, axis + 24, summary, "dots")


def _gap(gap: Gap, y: Number) -> list[Markup]:
    low, high = 100 * gap.start, 100 * gap.end
    anchor, at = ("middle", (low + high) / 2) if 25 < (low + high) / 2 < 75 else ("end", high)
    return [
        draw_line(low, y, high, y, "gap"),
        draw_line(high, y - 5, high, y + 5, "gap end"),
        draw_text(at, y + 18, gap.text, "note", anchor),
    ]


def _dot_row(dot: Dot, top: Number, chance: Number) -> list[Markup]:
    middle, x = top + 27, 100 * dot.value
    parts = [
        draw_text(0, top + 16, dot.label, f"label {dot.role}"),
        draw_text(100, top + 16, dot.text, f"value {dot.role}", "end"),
        draw_line(100 * chance, middle, x, middle, f"stem {dot.role}"),
    ]
    if dot.ci95 is not None and math.isfinite(dot.ci95):
        low, high = max(0.0, dot.value - dot.ci95), min(1.0, dot.value + dot.ci95)
        parts.append(draw_line(100 * low, middle, 100 * high, middle, f"whisker {dot.role}"))
    if dot.role == "single":
        mark = Markup('<rect class="mark single" x="{:.2f}%" y="{:.1f}" width="9" height="9" />')
        parts.append(Markup('<g transform="translate(-4.5 -4.5)">{}</g>').format(mark.format(x, middle)))
    else:
        mark = Markup('<circle class="mark {}" cx="{:.2f}%" cy="{:.1f}" r="5" />')
        parts.append(mark.format(dot.role, x, middle))
    return parts


@dataclass(frozen=True)
class Curve:
    """Points of one quantity over the training steps; `faint` ones lie behind and unsmoothed."""

    steps: Sequence[Number]
    values: Sequence[Number]
    faint: bool = False


def value_axis(
    values: Sequence[Number], top: Number, bottom: Number, percent: bool = False
) -> tuple[Callable[[Number], float], list[Markup]]:
    """Where a value stands between two heights, and grid lines that carry theirs."""
    ticks = nice_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def y(value: Number) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts: list[Markup] = []
    for tick in ticks:
        label = f"{round(100 * tick, 6):g}%" if percent else f"{tick:g}"
        parts += [draw_line(0, y(tick), 100, y(tick), "grid"), draw_text(0, y(tick) - 4, label, "tick")]
    return y, parts


def curve_plot(
    curves: Sequence[Curve],
    summary: str,
    percent: bool = False,
    marked: tuple[Number, Number, str] | None = None,
) -> Markup:
    """Lines over steps, with grid lines that carry their value, and one marked point (step, value, text)."""
    height, top, bottom = 190, 18, 160
    last = max(max(curve.steps) for curve in curves)
    y, parts = value_axis([value for curve in curves for value in curve.values], top, bottom, percent)
    lines = [_path(curve, last, y) for curve in curves]
    inner = '<svg viewBox="0 0 1000 {h}" width="100%" height="{h}" preserveAspectRatio="none">{lines}</svg>'
    parts.append(Markup(inner).format(h=height, lines=Markup("").join(lines)))
    for curve in curves:
        if len(curve.steps) <= FEW:
            parts += [_point(100 * x / last, y(v)) for x, v in zip(curve.steps, curve.values, strict=True)]
    if marked:
        parts += _marked(marked, last, y)
    parts += [
        draw_text(0, height - 10, "0", "tick"),
        draw_text(100, height - 10, f"{last:,.0f} steps", "tick", "end"),
    ]
    return svg(parts, height, summary, "curves")


def _path(curve: Curve, last: Number, y) -> Markup:
    points = [f"{1000 * x / last:.1f} {y(v):.1f}" for x, v in zip(curve.steps, curve.values, strict=True)]
    kind = "curve faint" if curve.faint else "curve"
    path = Markup('<path class="{}" vector-effect="non-scaling-stroke" d="M{}" />')
    return path.format(kind, "L".join(points))


def _point(x: Number, y: Number) -> Markup:
    return Markup('<circle class="point" cx="{:.2f}%" cy="{:.1f}" r="2.5" />').format(x, y)


def _marked(marked: tuple[Number, Number, str], last: Number, y) -> list[Markup]:
    step, value, text = marked
    x = 100 * step / last
    anchor = "end" if x > 60 else "start" if x < 40 else "middle"
    circle = Markup('<circle class="mark champion" cx="{:.2f}%" cy="{:.1f}" r="5" />').format(x, y(value))
    return [circle, draw_text(x, y(value) + 28, text, "note", anchor)]


def stacked_bar(shares: Sequence[tuple[str, Number]], summary: str) -> Markup:
    """One bar cut into (class name of the style sheet, share of the whole)."""
    parts, x = [], 0.0
    for name, share in shares:
        part = '<rect class="part {}" x="{:.2f}%" y="0" width="{:.2f}%" height="14" />'
        parts.append(Markup(part).format(name, 100 * x, 100 * share))
        x += share
    return svg(parts, 14, summary, "stack")


def nice_ticks(low: Number, high: Number, wanted: int = 4) -> list[Number]:
    """Round numbers, about `wanted` of them, from at most `low` to at least `high`."""
    largest = max(abs(low), abs(high))
    span = max(high - low, 1e-6 * largest, 1e-9) if largest else 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * wanted >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * k, 12) for k in range(first, max(last, first + 1) + 1)]


def svg(parts: Sequence[Markup], height: Number, summary: str, kind: str) -> Markup:
    """A chart of these parts, which a screen reader calls by its summary."""
    return Markup(
        '<svg class="chart {kind}" role="img" aria-label="{summary}" width="100%" height="{height}">{parts}</svg>'
    ).format(kind=kind, summary=summary, height=height, parts=Markup("").join(parts))


def draw_line(x1: Number, y1: Number, x2: Number, y2: Number, kind: str) -> Markup:
    """Per cent of the width, and pixels."""
    line = '<line class="{}" x1="{:.2f}%" y1="{:.1f}" x2="{:.2f}%" y2="{:.1f}" />'
    return Markup(line).format(kind, x1, y1, x2, y2)


def draw_text(x: Number, y: Number, text: str, kind: str, anchor: str = "start") -> Markup:
    """Escaped; per cent of the width, and pixels."""
    element = '<text class="{}" x="{:.2f}%" y="{:.1f}" text-anchor="{}" font-size="{}">{}</text>'
    return Markup(element).format(kind, x, y, anchor, TEXT, escape(text))
