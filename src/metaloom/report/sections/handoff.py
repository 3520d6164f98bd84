"""The hand-off: what the bundle is, for which task, how good, and how to check it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.report.inputs import Inputs
from metaloom.system.files import makes_again, read_json, required
from metaloom.system.plural import several
from metaloom.system.quantities import known, percent, size

STAGE = "export"
SUMS = "SHA256SUMS"  # as every file of a bundle it is read by name: the report imports nothing of `handoff`
MOST_LABELS = 80
# of metadata.json
SHOWN = ("method", "task", "input", "outputs", "onnx", "graphs", "max_ways", "provenance", "libraries")


@dataclass(frozen=True)
class BundleFile:
    """One file of the bundle."""

    path: str
    size: str
    sha256: str


@dataclass(frozen=True)
class Handoff:
    """The bundle in short.

    Args:
        where: its folder.
        task: the deployment task's name.
        labels: class names, each with the row of an example of it where the data set has one.
        labels_total: how many there are.
        accuracy: of this very model, in words; empty where it was not measured.
        accuracy_from: on how many examples, with the interval.
        learned_from: how many labelled examples it has learned from, and whether meta-training had seen them.
        files: without the golden samples.
        files_total: with them.
        total: size of all files.
        facts: names and values of metadata.json, nested names joined.
    """

    where: str
    task: str
    labels: list[tuple[str, int | None]]
    labels_total: int
    accuracy: str
    accuracy_from: str
    learned_from: str
    files: list[BundleFile]
    files_total: int
    total: str
    facts: list[tuple[str, str]]


def handoff(inputs: Inputs, first_row: dict[str, Any]) -> Handoff:
    """Read the bundle.

    Args:
        inputs: which hold its folder.
        first_row: of every class of the data set.

    Raises:
        MetaloomError: it is absent or incomplete; the message names its stage.
    """
    metadata = read_json(inputs.bundle / "metadata.json", made_by=STAGE)
    labels = read_json(inputs.bundle / "labels.json", made_by=STAGE)
    task = metadata.get("task", {})
    measured = metadata.get("metrics", {}).get("task") or {}
    files = _files(inputs)
    return Handoff(
        where=_where(inputs),
        task=str(task.get("name", "deployment task")),
        labels=[(label, _row(label, task.get("name"), first_row)) for label in labels[:MOST_LABELS]],
        labels_total=len(labels),
        accuracy=percent(measured["accuracy"]) if "accuracy" in measured else "",
        accuracy_from=_accuracy_from(measured) if "accuracy" in measured else "",
        learned_from=_learned_from(task),
        files=[file for file in files if not file.path.startswith("samples/")],
        files_total=len(files),
        total=size(sum((inputs.bundle / file.path).stat().st_size for file in files)),
        facts=_facts({name: metadata[name] for name in SHOWN if name in metadata}),
    )


def _where(inputs: Inputs) -> str:
    folder = inputs.bundle
    return (folder.relative_to(inputs.root) if folder.is_relative_to(inputs.root) else folder).as_posix()


def _row(label: str, task: Any, first_row: dict[str, Any]) -> int | None:
    """The first example of a class that the bundle calls by its full name, or by its own within the task."""
    row = first_row.get(label, first_row.get(f"{task}/{label}"))
    return None if row is None else int(row)


def _accuracy_from(measured: dict[str, Any]) -> str:
    examples = several(measured["examples"], "example")
    how = f"measured on {examples} of these classes that it did not learn from"
    if measured.get("kind") == "cross_validation":
        how = f"measured by cross-validation on its own {examples}"
    if not known(measured["low95"]):
        return how
    return f"{how}; 95% interval {percent(measured['low95'])} to {percent(measured['high95'])}"


def _learned_from(task: dict[str, Any]) -> str:
    if "support_examples" not in task:
        return ""
    seen = "none of these classes was part of meta-training"
    if task.get("meta_trained_on_it"):
        seen = "these classes were part of meta-training"
    elif task.get("chosen_on_it"):
        seen = "the meta-learner and its temperature were chosen on these classes"
    return f"Adapted from {several(task['support_examples'], 'labelled example')}; {seen}."


def _files(inputs: Inputs) -> list[BundleFile]:
    path = required(inputs.bundle / SUMS, STAGE)
    files = []
    for line in path.read_text(encoding="utf-8").splitlines():
        sha256, _, name = line.partition("  ")
        file = inputs.bundle / name
        if not file.is_file():
            raise MetaloomError(f"{path} lists {name!r}, which is not there: {makes_again(STAGE)}")
        files.append(BundleFile(name, size(file.stat().st_size), sha256))
    return files


def _facts(metadata: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for name, value in metadata.items():
        name = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            facts += _facts(value, name)
        elif isinstance(value, list):
            facts.append((name, ", ".join(map(str, value))))
        elif value is not None:
            facts.append((name, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return facts
