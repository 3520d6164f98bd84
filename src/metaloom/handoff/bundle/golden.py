"""Golden samples: inputs with the answers that torch gives in float64, which no graph had a part in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor

from metaloom.handoff.bundle.contents import Contents
from metaloom.handoff.graphs.learning import body_of
from metaloom.handoff.graphs.novelty import Novelty, embedded
from metaloom.handoff.shipped import verify
from metaloom.learner import AdaptedTask, Learner
from metaloom.methods import Head

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
    raw = learner.encoding.unpacked(contents.examples[:QUERIES])
    for name, ways in (("two_ways", 2), ("all_ways", min(max_ways, len(contents.labels)))):
        own = contents.support_y < ways
        support, labels = contents.support_x[own], contents.support_y[own]
        task, z = learned(exact, support, labels)
        probabilities, novelty = answers(task, Novelty.of(z, torch.tensor(labels), ways), raw)
        padded = np.pad(probabilities, ((0, 0), (0, max_ways - ways)))
        inputs = [learner.encoding.unpacked(support), labels.astype(np.int64), raw]
        save_sample(folder, name, verify.ADAPT, inputs, [padded, novelty])


def learned(
    exact: Learner, support: Shaped[np.ndarray, "support ..."], labels: Int[np.ndarray, " support"]
) -> tuple[AdaptedTask, Float64[Tensor, "support embed"]]:
    """A task in float64 and the embeddings of its support set, which the head alone takes where the network stays."""
    if not exact.method.frozen:
        task = exact.adapt(support, labels)
        return task, embedded(task, support)
    body, ways = body_of(exact), int(labels.max()) + 1
    z = embedded(body, support)
    with torch.no_grad():
        head = exact.method.head(exact.params, z, torch.tensor(labels), ways)
    t = exact.temperature.of_task(labels, ways)
    return replace(body, model=replace(body.model, head=head.over(t)), classes=list(range(ways))), z


def answers(
    task: AdaptedTask, novelty: Novelty, raw: Shaped[np.ndarray, "item ..."]
) -> tuple[Float[np.ndarray, "item n_way"], Float[np.ndarray, " item"]]:
    """Probabilities and novelty of raw examples."""
    return answers_to(task.model.head, novelty, embedded(task, task.encoding.repacked(raw)))


def answers_to(
    head: Head, novelty: Novelty, z: Float64[Tensor, "item embed"]
) -> tuple[Float[np.ndarray, "item n_way"], Float[np.ndarray, " item"]]:
    """Probabilities and novelty by embeddings."""
    probabilities = Head(*(each.double() for each in head)).logits(z).softmax(dim=1)
    return probabilities.numpy().astype(np.float32), novelty.score(z).numpy().astype(np.float32)


def save_sample(folder: Path, name: str, graph: str, inputs: Sequence, outputs: Sequence) -> None:
    """One file for each input and output of a graph."""
    folder.mkdir(exist_ok=True)
    names = verify.INTERFACES[graph]
    for part, values in zip((*names[0], *names[1]), (*inputs, *outputs), strict=True):
        np.save(folder / f"{name}.{part}.npy", values)
