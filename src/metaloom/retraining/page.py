"""What became of every retraining, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from metaloom.report.charts.marks import draw_line, draw_text, svg, value_axis
from metaloom.report.rendering import fill
from metaloom.retraining.history import spent
from metaloom.retraining.nights import Night
from metaloom.system.plural import several
from metaloom.system.provenance import libraries
from metaloom.system.quantities import UNKNOWN, duration, from_to, percent

SHOWN = 60  # nights of the chart, the newest
TOP, BOTTOM, HEIGHT = 18, 200, 236  # pixels of the chart
ROLES = {"promoted": "champion", "candidate": "meta", "kept": "meta"}


def page(nights: Sequence[Night], name: str, stage: str, version: str) -> str:
    """The page.

    Args:
        nights: the oldest first, at least one.
        name: of the project.
        stage: that models are promoted into.
        version: that is in it; empty where there is none.
    """
    measured = [night for night in nights if night.figures]
    present = next((night for night in reversed(nights) if version and night.version == version), None)
    parts = {
        "name": name,
        "stage": stage,
        "first": _date(nights[0]),
        "last": _date(nights[-1]),
        "present": version,
        "summary": _summary(nights),
        "tiles": _tiles(nights, present, stage),
        "chart": _chart(measured[-SHOWN:]) if len(measured) > 1 else "",
        "nights": [_row(night) for night in reversed(nights)],
        "version": libraries()["metaloom"],
    }
    return fill("history.html", parts)


def _date(night: Night) -> str:
    return datetime.fromtimestamp(night.began, UTC).date().isoformat()


def _summary(nights: Sequence[Night]) -> str:
    counts = Counter(night.became for night in nights)
    return f"{several(len(nights), 'retraining')}: {', '.join(f'{n:,} {what}' for what, n in counts.most_common())}."


def _tiles(nights: Sequence[Night], present: Night | None, stage: str) -> list[tuple[str, str, str]]:
    newest, took = nights[-1], sum(night.seconds for night in nights)
    tiles = [("Last retraining", newest.became, newest.name)]
    if present is not None and present.figures:
        found = present.figures
        tiles.append(
            (f"Accuracy in {stage}", percent(found["accuracy"]), f"{_interval(found)} at {found['task']}"),
        )
    if present is not None:
        tiles.append((f"{present.version} was made", _date(present), present.branch))
    tiles.append(("Time, all nights", duration(took), f"{duration(took / len(nights))} a night"))
    if energy := sum(night.kwh for night in nights):
        tiles.append(("Energy, all nights", f"{energy:.2g} kWh", f"{sum(night.co2 for night in nights):.2g} kg CO2"))
    return tiles


def _interval(found: dict[str, Any]) -> str:
    return from_to(found["low95"], found["high95"])


def _row(night: Night) -> dict[str, str]:
    found = night.figures
    return {
        "name": night.name,
        "became": night.became,
        "kind": night.outcome or "waits",
        "reason": "; ".join([*([night.reason] if night.reason else []), *night.notes]),
        "version": night.version or UNKNOWN,
        "champion": night.champion or UNKNOWN,
        "verdict": night.verdict.get("outcome") or UNKNOWN,
        "accuracy": percent(found["accuracy"]) if found else UNKNOWN,
        "interval": _interval(found) if found else "",
        "time": spent(night),
    }


def _chart(nights: Sequence[Night]) -> Markup:
    """A dot for each night, the newest on the right; its interval is a line."""
    values = [night.figures[name] for night in nights for name in ("low95", "accuracy", "high95")]
    y, parts = value_axis([value for value in values if value is not None], TOP, BOTTOM, percent=True)
    for index, night in enumerate(nights):
        x, found, role = 14 + 82 * index / (len(nights) - 1), night.figures, ROLES.get(night.outcome, "single")
        if found["low95"] is not None:
            parts.append(draw_line(x, y(found["low95"]), x, y(found["high95"]), f"whisker thin {role}"))
        dot = Markup('<circle class="mark {}" cx="{:.2f}%" cy="{:.1f}" r="4"><title>{}</title></circle>')
        told = f"{night.name}: {percent(found['accuracy'])}, {night.became}"
        parts.append(dot.format(role, x, y(found["accuracy"]), told))
    parts += [
        draw_text(14, HEIGHT - 8, _date(nights[0]), "tick", "middle"),
        draw_text(96, HEIGHT - 8, _date(nights[-1]), "tick", "end"),
    ]
    best = max(found["accuracy"] for found in (night.figures for night in nights))
    summary = f"Accuracy of {several(len(nights), 'night')}, from {percent(nights[0].figures['accuracy'])} to "
    return svg(parts, HEIGHT, f"{summary}{percent(nights[-1].figures['accuracy'])}, at most {percent(best)}", "curves")
