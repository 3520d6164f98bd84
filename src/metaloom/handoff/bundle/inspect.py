"""What a bundle is, in a few lines, from its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from metaloom.handoff.metadata import Accuracy, Metadata
from metaloom.system.files import size_of
from metaloom.system.plural import several, some
from metaloom.system.quantities import interval95, size

NOT_MEASURED = "not measured"
NAMED = 12  # classes or tasks


def lines(folder: Path, metadata: Metadata, labels: list[str] | dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Names and texts.

    Args:
        folder: of the bundle.
        metadata: of the bundle.
        labels: its classes, or those of each task of a fleet.
    """
    task, source, network = metadata.task, metadata.provenance, metadata.learner["network"]
    if isinstance(labels, dict):
        yield "tasks", f"{len(labels)}: {some(list(labels), NAMED)}"
    else:
        yield "task", f"{task.name}, {task.n_way} classes from {task.support_examples} labelled examples"
        yield "classes", some(labels, NAMED)
        measured, estimate = metadata.metrics.task, metadata.metrics.estimate
        yield "accuracy", _accuracy(measured)
        if estimate != measured:  # of a task of one's own the estimate is all that was measured
            yield "estimate", _accuracy(estimate)
    yield "learner", f"{metadata.method} over {network['name']}-{network['width']}"
    for setting, score in metadata.metrics.evaluation.items():
        yield f"  {setting}", f"{score.in_words} on {score.episodes} test episodes"
    git = source.git
    changed = " with uncommitted changes" if git and git.uncommitted_changes else ""
    yield "data", source.data or "not known"
    yield "commit", f"{git.commit}{changed}" if git else "not known"
    yield "input", f"{metadata.input.kind}: {metadata.input.description}"
    yield "onnx", f"opset {metadata.onnx.opset}, IR version {metadata.onnx.ir_version}"
    for name, graph in metadata.graphs.items():
        yield f"  {name}", f"{size(graph.bytes)}, within {graph.tolerance:.0e} of torch"
    files = sum(path.is_file() for path in folder.rglob("*"))
    yield "size", f"{several(files, 'file')}, {size(size_of(folder))}"


def _accuracy(measured: Accuracy | None) -> str:
    if measured is None:
        return NOT_MEASURED
    how = {"held_out": "held-out examples", "cross_validation": "support examples, cross-validated"}[measured.kind]
    return f"{measured.accuracy:.1%} of {measured.examples} {how} ({interval95(measured.low95, measured.high95)})"
