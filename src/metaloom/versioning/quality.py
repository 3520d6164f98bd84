"""Whether one bundle is worse than another at the task that both were handed off for, by their own held-out figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


class Lenient(BaseModel):
    """A part of metadata.json of any version, of which these fields are read."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, strict=True)


class Task(Lenient):
    """That the bundle is for."""

    name: str
    n_way: int


class Measured(Lenient):
    """Shares of 1."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    low95: Annotated[float, Field(ge=0, le=1)]
    high95: Annotated[float, Field(ge=0, le=1)]


class Metrics(Lenient):
    """`task`: of this very model."""

    task: Measured | None = None


class Provenance(Lenient):
    """`data`: the data version."""

    data: str | None = None


class Told(Lenient):
    """What a bundle's metadata.json says, as far as versions are compared by it."""

    task: Task | None = None
    metrics: Metrics = Metrics()
    provenance: Provenance = Provenance()


def told(metadata: Any) -> Told | None:
    """The same, from what was read; None where there is nothing, or it is damaged."""
    try:
        return Told.model_validate(metadata)
    except ValidationError:
        return None


def handed(metadata: Any) -> Handed | None:
    """Of its task; None where there is no bundle, it is damaged, or nothing was measured, as for a task of a user's
    own."""
    found = told(metadata)
    if found is None or found.task is None or found.metrics.task is None:
        return None
    measured = found.metrics.task
    return Handed(found.task.name, found.task.n_way, measured.accuracy, measured.low95, measured.high95)


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
