"""What became of every retraining, as a table."""

from __future__ import annotations

from metaloom.retraining.nights import Night
from metaloom.system.columns import columns
from metaloom.system.escaping import on_one_line
from metaloom.system.quantities import UNKNOWN, duration, percent

HEAD = ("retraining", "became", "version", "against", "verdict", "accuracy", "time")


def rows(nights: list[Night]) -> list[dict[str, str]]:
    """The same for a program, each with the reason of its outcome."""
    return [dict(zip(HEAD, _row(night), strict=True)) | {"why": on_one_line(night.reason)} for night in nights[::-1]]


def table(nights: list[Night]) -> str:
    """A row for each, the newest first, and below what still waits and why."""
    newest = nights[::-1]
    lines = columns([HEAD, *map(_row, newest)])
    waiting = [f"{night.name}: {on_one_line(night.reason)}" for night in newest if not night.outcome and night.reason]
    return "\n".join([*lines, *waiting])


def _row(night: Night) -> tuple[str, ...]:
    found = night.figures
    accuracy = UNKNOWN
    if found:
        accuracy = f"{percent(found['accuracy'])} ({percent(found['low95'])} to {percent(found['high95'])})"
    return (
        night.name,
        night.became,
        night.version or UNKNOWN,
        night.champion or UNKNOWN,
        night.verdict.get("outcome") or UNKNOWN,
        accuracy,
        spent(night),
    )


def spent(night: Night) -> str:
    """Time, and energy where that was counted."""
    return duration(night.seconds) + (f", {night.kwh:.2g} kWh" if night.kwh else "")
