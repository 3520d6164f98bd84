"""Golden samples: inputs with the answers that torch gives in float64, which no graph had a part in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from metaloom.handoff.graphs.novelty import Known, embedded, known_of
from metaloom.handoff.shipped import verify
from metaloom.kinds.pictures.resize import resize
from metaloom.learner import Learner
from metaloom.learner.learner import AdaptedTask

if TYPE_CHECKING:
    from metaloom.handoff.bundle.write import Handoff

SAMPLES, QUERIES = 8, 3


def write_samples(folder: Path, handoff: Handoff, known: Known) -> None:
    """For model.onnx: pictures as they are, ones that are not square, and one of a single pixel."""
    examples = handoff.examples[:SAMPLES]
    doubled = examples[:2].repeat(2, axis=1).repeat(3, axis=2)
    kinds = {"examples": examples, "not_square": doubled[:, 1:, :-5], verify.FLAT: examples[:1, :1, :1]}
    for name, images in kinds.items():
        expected = answers(handoff.task, known, images)
        save_sample(folder, name, verify.INTERFACES[verify.MODEL], (np.ascontiguousarray(images),), expected)


def write_learning_samples(folder: Path, learner: Learner, handoff: Handoff, max_ways: int) -> None:
    """For the graphs that learn: two tasks of the support set's classes, of other numbers of ways and examples."""
    exact = replace(learner, params=learner.params.double())
    for name, ways in (("two_ways", 2), ("all_ways", min(max_ways, len(handoff.labels)))):
        own = handoff.support_y < ways
        support, labels = handoff.support_x[own], handoff.support_y[own]
        task = exact.adapt(support, labels)
        query = handoff.examples[:QUERIES]
        probabilities, unlike = answers(task, known_of(task, support, labels), query)
        padded = np.pad(probabilities, ((0, 0), (0, max_ways - ways)))
        save_sample(
            folder, name, verify.INTERFACES[verify.ADAPT], (support, labels.astype(np.int64), query), (padded, unlike)
        )


def answers(
    task: AdaptedTask, known: Known, images: UInt8[np.ndarray, "image height width channel"]
) -> tuple[Float[np.ndarray, "image n_way"], Float[np.ndarray, " image"]]:
    """Probabilities and the score of strangeness of images of any size."""
    pixels = resize(images, task.model.network.shape[-1])
    exact = replace(task, model=task.model.double())
    unlike = known.score(embedded(task, pixels))
    return exact.predict_proba(pixels).astype(np.float32), unlike.numpy().astype(np.float32)


def save_sample(folder: Path, name: str, interface: tuple, inputs: tuple, outputs: tuple) -> None:
    folder.mkdir(exist_ok=True)
    for part, values in zip((*interface[0], *interface[1]), (*inputs, *outputs), strict=True):
        np.save(folder / f"{name}.{part}.npy", values)
