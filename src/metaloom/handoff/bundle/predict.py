"""Predictions from a bundle: numpy, onnxruntime and pillow, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaloom.errors import MetaloomError
from metaloom.handoff.shipped.verify import FLEET, MODEL, Bundle, open_bundle
from metaloom.kinds.pictures.files import read_picture


@dataclass(frozen=True)
class Prediction:
    """The classes of one image with their probabilities, the likeliest first.

    Args:
        image: its path.
        probabilities: by class.
        unlike: how far it is from the nearest class, in units of how far the class's own examples are: 1 is as usual.
    """

    image: str
    probabilities: dict[str, float]
    unlike: float

    @property
    def label(self) -> str:
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        return self.probabilities[self.label]


def predict(bundle: str | Path, images: Sequence[str | Path], task: str | None = None) -> list[Prediction]:
    """Classify picture files of any size.

    Args:
        bundle: its folder.
        images: the files.
        task: whose classes they are, for a bundle of many tasks.

    Raises:
        MetaloomError: the bundle is damaged, has no such task, or a file is no image.
    """
    opened = usable(bundle, [MODEL, FLEET])
    labels, further = _of_task(opened, task)
    channels = opened.metadata["input"]["channels"]
    (graph,) = opened.sessions
    predictions = []
    for path in images:  # one at a time: sizes may differ, and a large picture should be alone in memory
        probabilities, unlike = opened.run(graph, read_picture(path, channels)[None], *further)
        row = probabilities[0, : len(labels)]
        ranked = {labels[way]: float(row[way]) for way in np.argsort(-row, kind="stable")}
        predictions.append(Prediction(str(path), ranked, float(unlike[0])))
    return predictions


def _of_task(opened: Bundle, task: str | None) -> tuple[list[str], list[np.ndarray]]:
    """The classes, and what the graph is asked with besides images."""
    labels = opened.labels
    if not isinstance(labels, dict):
        if task is not None:
            raise MetaloomError("this bundle is of one task: leave out --task")
        return labels, []
    if task not in labels:
        some = ", ".join(list(labels)[:3])
        raise MetaloomError(
            f"this bundle has {len(labels)} tasks ({some}, …), none called {task}: name one with --task"
        )
    return labels[task], [np.array([list(labels).index(task)])]


def usable(bundle: str | Path, graphs: list[str]) -> Bundle:
    """A bundle whose files are whole, with these of its graphs loaded.

    Raises:
        MetaloomError: it is damaged or incomplete.
    """
    opened, problems = open_bundle(Path(bundle), graphs)
    if opened is None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise MetaloomError(f"{bundle} cannot be used: {problems[0]}{more}; get a whole copy")
    return opened
