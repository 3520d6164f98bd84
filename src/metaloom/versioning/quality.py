"""Whether one bundle is worse than another at the task that both were handed off for, by their own held-out figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metaloom.system.quantities import percent


@dataclass(frozen=True)
class Handed:
    """What a bundle's metadata.json says of the task that it was made for.

    Args:
        task: its name.
        n_way: classes.
        accuracy: on examples of these classes that the bundle has not learned from.
        low95, high95: ends of its interval.
    """

    task: str
    n_way: int
    accuracy: float
    low95: float
    high95: float

    def __str__(self) -> str:
        return f"{percent(self.accuracy)} ({percent(self.low95)} to {percent(self.high95)})"


def handed(metadata: dict[str, Any] | None) -> Handed | None:
    """The same; None where there is no bundle, or nothing was measured, as for a task of a user's own."""
    measured = (metadata or {}).get("metrics", {}).get("task")
    if metadata is None or measured is None:
        return None
    task = metadata["task"]
    ends = (measured[name] for name in ("accuracy", "low95", "high95"))
    return Handed(task["name"], task["n_way"], *ends)


def told_apart(present: Handed | None, new: Handed | None) -> tuple[bool, str]:
    """Whether `new` is clearly worse than `present`, and a sentence about both; "" where there is nothing to compare.

    Clearly: at the same task its whole interval lies below the other's accuracy.
    """
    if present is None or new is None:
        return False, ""
    if (present.task, present.n_way) != (new.task, new.n_way):
        other = f"{present.task} with {present.n_way} classes, now {new.task} with {new.n_way}"
        return False, f"another task than before ({other}): their accuracies do not compare"
    if new.high95 < present.accuracy:
        return True, f"worse at {new.task}: {new} instead of {present}"
    words = "no worse" if new.accuracy >= present.accuracy else "not clearly worse"
    return False, f"{words} at {new.task}: {new}, before {present}"
