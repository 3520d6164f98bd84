"""Golden samples: inputs with the answers that torch gives in float64, which no graph had a part in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from metaloom.handoff.bundle.contents import Contents
from metaloom.handoff.graphs.novelty import Novelty, embedded, novelty_of
from metaloom.handoff.shipped import verify
from metaloom.learner import AdaptedTask, Learner

SAMPLES, QUERIES = 8, 3  # examples for the graphs that answer, and questions to those that learn


def write_samples(folder: Path, contents: Contents) -> None:
    """For model.onnx: examples as they are, and the odd ones of their kind."""
    for name, raw in contents.task.encoding.golden(contents.examples[:SAMPLES]).items():
        expected = answers(contents.task, contents.novelty, raw)
        save_sample(folder, name, verify.MODEL, [np.ascontiguousarray(raw)], expected)


def write_plain_samples(folder: Path, contents: Contents) -> None:
    """For model.plain.onnx: the same examples, prepared; their answers are there already."""
    encoding = contents.task.encoding
    for name, raw in encoding.golden(contents.examples[:SAMPLES]).items():
        np.save(folder / f"{name}.{verify.PREPARED}.npy", encoding.prepared(encoding.repacked(raw)))


def write_learning_samples(folder: Path, learner: Learner, contents: Contents, max_ways: int) -> None:
    """For the graphs that learn: two tasks of the support set's classes, of other numbers of ways and examples."""
    exact = replace(learner, params=learner.params.double())
    for name, ways in (("two_ways", 2), ("all_ways", min(max_ways, len(contents.labels)))):
        own = contents.support_y < ways
        support, labels = contents.support_x[own], contents.support_y[own]
        task = exact.adapt(support, labels)
        raw = learner.encoding.unpacked(contents.examples[:QUERIES])
        probabilities, novelty = answers(task, novelty_of(task, support, labels), raw)
        padded = np.pad(probabilities, ((0, 0), (0, max_ways - ways)))
        inputs = [learner.encoding.unpacked(support), labels.astype(np.int64), raw]
        save_sample(folder, name, verify.ADAPT, inputs, [padded, novelty])


def answers(
    task: AdaptedTask, novelty: Novelty, raw: Shaped[np.ndarray, "item ..."]
) -> tuple[Float[np.ndarray, "item n_way"], Float[np.ndarray, " item"]]:
    """Probabilities and novelty of raw examples."""
    packed = task.encoding.repacked(raw)
    exact = replace(task, model=task.model.double())
    scores = novelty.score(embedded(task, packed))
    return exact.predict_proba(packed).astype(np.float32), scores.numpy().astype(np.float32)


def save_sample(folder: Path, name: str, graph: str, inputs: Sequence, outputs: Sequence) -> None:
    """One file for each input and output of a graph."""
    folder.mkdir(exist_ok=True)
    names = verify.INTERFACES[graph]
    for part, values in zip((*names[0], *names[1]), (*inputs, *outputs), strict=True):
        np.save(folder / f"{name}.{part}.npy", values)
