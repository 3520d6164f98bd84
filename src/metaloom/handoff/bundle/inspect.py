"""What a bundle is, in a few lines, from its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOT_MEASURED = "not measured"


def lines(
    folder: Path, metadata: dict[str, Any], labels: list[str] | dict[str, list[str]]
) -> Iterator[tuple[str, str]]:
    """Names and texts.

    Args:
        folder: of the bundle.
        metadata: what its metadata.json holds.
        labels: its classes, or those of each task of a fleet.
    """
    task, source, learner = metadata["task"], metadata["provenance"], metadata["learner"]
    if isinstance(labels, dict):
        yield "tasks", f"{len(labels)}: {_few(list(labels))}"
    else:
        yield "task", f"{task['name']}, {task['n_way']} classes from {task['support_examples']} labelled examples"
        yield "classes", _few(labels)
        yield "accuracy", _accuracy(metadata["metrics"].get("task"))
        yield "estimate", _accuracy(metadata["metrics"].get("estimate"))
    yield "learner", f"{metadata['method']} over {learner['network']['name']}-{learner['network']['width']}"
    for setting, scores in (metadata["metrics"].get("evaluation") or {}).items():
        interval = "" if scores["ci95"] is None else f" ± {scores['ci95']:.1%}"
        accuracy = NOT_MEASURED if scores["accuracy"] is None else f"{scores['accuracy']:.1%}{interval}"
        yield f"  {setting}", f"{accuracy} on {scores['episodes']} test episodes"
    git = source.get("git")
    changed = " with uncommitted changes" if git and git["uncommitted_changes"] else ""
    yield "data", str(source.get("data") or "not known")
    yield "commit", f"{git['commit']}{changed}" if git else "not known"
    yield "input", metadata["input"]["description"]
    yield "onnx", f"opset {metadata['onnx']['opset']}, IR version {metadata['onnx']['ir_version']}"
    for name, graph in metadata["graphs"].items():
        yield f"  {name}", f"{graph['bytes'] / 1000:,.0f} kB, within {graph['tolerance']:.0e} of torch"
    files = [path for path in folder.rglob("*") if path.is_file()]
    yield "size", f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"


def _few(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _accuracy(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return NOT_MEASURED
    interval = f"95% interval {measured['low95']:.1%} to {measured['high95']:.1%}"
    how = {"held_out": "held-out examples", "cross_validation": "support examples, cross-validated"}[measured["kind"]]
    return f"{measured['accuracy']:.1%} of {measured['examples']} {how} ({interval})"
