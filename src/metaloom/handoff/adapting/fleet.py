"""Many tasks at once, a bundle for each; `metaloom.handoff.adapting.shared` has the one bundle of all.

The graph is traced once for a network, its constants are swapped for each task. A bundle that was made of the same
examples by the same meta-learner is kept as it is, so an interrupted fleet goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from metaloom.config import load_settings
from metaloom.data.support import Support, read_support, task_name
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.solve import Solved, answers, solve
from metaloom.handoff.bundle.contents import TOLERANCE, Maker, about
from metaloom.handoff.bundle.golden import save_sample
from metaloom.handoff.bundle.write import GraphFile, put_together, verified
from metaloom.handoff.graphs.learning import body_of
from metaloom.handoff.graphs.task import Template, head_tensors
from metaloom.handoff.metadata import read_metadata
from metaloom.handoff.shipped import verify
from metaloom.system.files import atomic_dir, read_json, size_of, write_json

SUMMARY = "fleet.json"
GOLDEN = 2  # examples whose answers are in each bundle


class Status(StrEnum):
    """What became of a task."""

    MADE = "made"
    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one task; `why` says it of one that failed."""

    task: str
    status: Status
    why: str = ""
    estimate: float | None = None
    size: int = 0

    @property
    def failed(self) -> bool:
        """Whether there is no bundle of it."""
        return self.status is Status.FAILED


@functools.lru_cache(maxsize=1)
def maker_of(model: str) -> Maker:
    """Opened once in each process, with the settings of the project that it is in."""
    return Maker.open(Path(model), load_settings())


def make_bundles(paths: Sequence[str], out: str, model: str) -> list[Outcome]:
    """Learn a part of a fleet and write each task's bundle; what fails does not stop the others."""
    maker = maker_of(model)
    learner, export = maker.learner, maker.settings.export
    template = Template(body_of(learner), export) if learner.method.frozen else None
    supports, outcomes = read(maker, paths)
    rest = {}
    for name, support in supports.items():
        there = _there(Path(out) / name, maker.fingerprint(support))
        if there:
            outcomes.append(there)
        else:
            rest[name] = support
    for solved in solve(maker, rest):
        try:
            outcomes.append(_write(maker, solved, Path(out) / solved.name, template))
        except (MetaloomError, OSError) as error:
            outcomes.append(Outcome(solved.name, Status.FAILED, str(error)))
    return outcomes


def read(maker: Maker, paths: Sequence[str]) -> tuple[dict[str, Support], list[Outcome]]:
    """The tasks by name, and those that cannot be read."""
    encoding = maker.learner.encoding
    supports, failed = {}, []
    for path in map(Path, paths):
        try:
            supports[task_name(path)] = read_support(path, encoding.kind, encoding.packed)
        except MetaloomError as error:
            failed.append(Outcome(task_name(path), Status.FAILED, str(error)))
    return supports, failed


def _there(bundle: Path, fingerprint: str) -> Outcome | None:
    """What stands there already, made of the same; None for anything else, whatever it is."""
    try:
        metadata = read_json(bundle / verify.METADATA)
    except (MetaloomError, OSError):
        return None
    if not isinstance(metadata, dict) or metadata.get("fingerprint") != fingerprint or verify.check_files(bundle):
        return None
    try:
        measured = read_metadata(metadata).metrics.task
    except MetaloomError:
        return None
    return Outcome(bundle.name, Status.KEPT, estimate=measured and measured.accuracy, size=size_of(bundle))


def _write(maker: Maker, solved: Solved, folder: Path, template: Template | None) -> Outcome:
    metadata, labels = maker.describe(solved.card, solved.fingerprint), solved.support.labels
    template = template or Template(solved.task, maker.settings.export)
    head = head_tensors(solved.task.model.head, solved.novelty)
    graph = template.filled(head, len(labels), about(metadata, labels))
    with atomic_dir(folder.absolute()) as new:
        rows = np.unique(solved.support.ways, return_index=True)[1][:GOLDEN]
        questions = [solved.task.encoding.unpacked(solved.support.examples[rows])]
        save_sample(new / verify.SAMPLES, "examples", verify.MODEL, questions, answers(solved, rows))
        kind = solved.task.encoding.kind
        put_together(new, {verify.MODEL: GraphFile.of(graph, TOLERANCE)}, labels, metadata, kind)
        verified(new, folder, with_onnx=False)  # the template has passed ONNX's checker
        size = size_of(new)
    return Outcome(solved.name, Status.MADE, estimate=accuracy(solved.estimate), size=size)


def accuracy(estimate: dict[str, Any] | None) -> float | None:
    """A share of 1; None where nothing was measured."""
    return None if estimate is None else float(estimate["accuracy"])


def write_summary(out: Path, outcomes: Sequence[Outcome]) -> None:
    """fleet.json: what became of each task, by name."""
    write_json(out / SUMMARY, {"tasks": [vars(each) for each in sorted(outcomes, key=lambda each: each.task)]})
