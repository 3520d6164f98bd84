"""Predictions from a bundle: numpy, onnxruntime and pillow, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaloom.errors import MetaloomError
from metaloom.handoff.pictures import read_picture
from metaloom.handoff.verify import MODEL, Bundle, open_bundle


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


def predict(bundle: str | Path, images: Sequence[str | Path]) -> list[Prediction]:
    """Classify picture files of any size.

    Raises:
        MetaloomError: the bundle is damaged, or a file is no image.
    """
    opened = usable(bundle, [MODEL])
    channels = opened.metadata["input"]["channels"]
    predictions = []
    for path in images:  # one at a time: sizes may differ, and a large picture should be alone in memory
        probabilities, unlike = opened.run(MODEL, read_picture(path, channels)[None])
        row = probabilities[0]
        ranked = {opened.labels[way]: float(row[way]) for way in np.argsort(-row, kind="stable")}
        predictions.append(Prediction(str(path), ranked, float(unlike[0])))
    return predictions


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
