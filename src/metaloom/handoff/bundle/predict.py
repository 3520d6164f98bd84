"""Predictions from a bundle: onnxruntime and what reads the files, no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from metaloom.data.files import Example, fitting, read_argument
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.stranger import timed, usable
from metaloom.handoff.shipped.verify import FLEET, METADATA, MODEL, Bundle
from metaloom.kinds import Kind, kind_from
from metaloom.system.plural import several, some

NAMED = 3  # tasks in a message
BATCH = 512  # examples of one file that are asked about together


@dataclass(frozen=True)
class Prediction:
    """The classes of one example with their probabilities, the likeliest first.

    Args:
        example: its file; FILE#3 is the third of a file that holds many.
        probabilities: by class.
        novelty: how far it is from the nearest class, in units of how far the class's own examples are: 1 is as usual.
    """

    example: str
    probabilities: dict[str, float]
    novelty: float

    @property
    def label(self) -> str:
        """The likeliest class."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of the likeliest class."""
        return self.probabilities[self.label]


def predict(
    bundle: str | Path,
    files: Sequence[str | Path],
    task: str | None = None,
    on_bad: Callable[[MetaloomError], None] | None = None,
    on_doubt: Callable[[str], None] | None = None,
) -> list[Prediction]:
    """Classify the examples in files.

    Args:
        bundle: its folder.
        files: of examples: one each of any size, or tables of many; in their place a text itself (`Kind.spelled`).
        task: to choose classes from, in a bundle of many tasks.
        on_bad: gets the error of a file that cannot be read, and the others are classified all the same; None: it is
            raised.
        on_doubt: gets a sentence about the examples where they do not look like those in training.

    Raises:
        MetaloomError: the bundle is damaged, has no such task, or a file holds what is no example.
    """
    opened = usable(bundle, [MODEL, FLEET])
    labels, place = _of_task(opened, task)
    kind = kind_from(opened.metadata["input"], METADATA, "get a whole copy")
    (graph,) = opened.sessions
    predictions, negative = [], 0
    for names, raw in _batches(files, kind, tuple(opened.metadata["input"]["shape"][1:]), on_bad):
        negative += _negatives(kind, raw, opened.metadata["input"])
        further = [] if place is None else [np.full(len(raw), place)]
        with timed(bundle):
            probabilities, novelty = opened.run(graph, raw, *further)
        if probabilities.shape[:1] != novelty.shape or len(novelty) != len(raw):
            raise MetaloomError(
                f"{bundle} cannot be used: {graph} gives {len(novelty)} answers to {len(raw)} questions"
            )
        for name, row, score in zip(names, probabilities[:, : len(labels)], novelty, strict=True):
            ranked = {labels[way]: float(row[way]) for way in np.argsort(-row, kind="stable")}
            predictions.append(Prediction(name, ranked, float(score)))
    if on_doubt and 2 * negative > len(predictions):
        on_doubt(
            f"{negative} of {len(predictions)} {kind.many} look like the negative of those in training: invert them, "
            "or adapt with `metaloom adapt --invert`"
        )
    return predictions


def _negatives(kind: Kind, raw: Shaped[np.ndarray, "item ..."], saved: dict[str, Any]) -> int:
    try:
        return int(kind.looks_negative(raw, saved).sum())
    except (KeyError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise MetaloomError(f"{METADATA} is damaged: input: {what}; get a whole copy of the bundle") from None


def _batches(
    files: Sequence[str | Path],
    kind: Kind,
    shape: tuple[int | str, ...],
    on_bad: Callable[[MetaloomError], None] | None,
) -> Iterator[tuple[list[str], Shaped[np.ndarray, "item ..."]]]:
    """Names and raw examples; one file at a time, as a large one should be alone in memory."""
    for path in files:
        try:
            examples = [each._replace(raw=fitting(each, shape, kind)) for each in read_argument(path, kind)]
        except MetaloomError as error:
            if on_bad is None:
                raise
            on_bad(error)
            continue
        for _, alike in groupby(examples, key=lambda each: each.raw.shape):
            same: list[Example] = list(alike)
            for start in range(0, len(same), BATCH):
                batch = same[start : start + BATCH]
                yield [each.source for each in batch], np.stack([each.raw for each in batch])


def _of_task(opened: Bundle, task: str | None) -> tuple[list[str], int | None]:
    """The classes, and the task's place in a bundle of many."""
    labels = opened.labels
    if not isinstance(labels, dict):
        if task is not None:
            raise MetaloomError("this bundle is of one task: leave out --task")
        return labels, None
    if task not in labels:
        none = "" if task is None else f", none called {task}"
        known = f"{several(len(labels), 'task')} ({some(list(labels), NAMED)})"
        raise MetaloomError(f"this bundle has {known}{none}: name one with --task")
    return labels[task], list(labels).index(task)
