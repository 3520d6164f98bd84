"""Many tasks at once, a bundle for each; `metaloom.handoff.adapting.shared` has the one bundle of all.

The graph is traced once for a network, its constants are swapped for each task. Where a method leaves the network as it
is, the pictures of a part of the fleet are embedded together, and the heads of tasks of one shape solved together.
A bundle that was made of the same pictures by the same meta-learner is kept as it is, so an interrupted fleet goes on.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.config import Settings, load_settings
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.support import Support, read_support
from metaloom.handoff.bundle.golden import save_sample
from metaloom.handoff.bundle.write import TOLERANCE, TaskCard, about, describe, put_together
from metaloom.handoff.graphs.learning import body_of
from metaloom.handoff.graphs.novelty import Known
from metaloom.handoff.graphs.task import Template, head_tensors
from metaloom.handoff.shipped import verify
from metaloom.learner import AdaptedTask, Learner
from metaloom.learner.estimate import cross_validated, cross_validated_embeddings
from metaloom.methods import Head, TaskModel
from metaloom.system.files import atomic_dir, read_json, write_json
from metaloom.system.provenance import commit, data_version
from metaloom.system.sources import digest

MADE, KEPT, FAILED = "made", "kept", "failed"
SUMMARY = "fleet.json"
CODE = "metaloom.handoff.adapting"  # the package whose code makes the bundles
GOLDEN = 2  # pictures whose answers are in each bundle


@dataclass(frozen=True)
class Outcome:
    """What became of one task; `why` says it of one that failed."""

    task: str
    status: str
    why: str = ""
    estimate: float | None = None
    size: int = 0


@dataclass(frozen=True)
class Solved:
    """A task that has been learned, with the embeddings of its support set."""

    name: str
    support: Support
    task: AdaptedTask
    z: Float[Tensor, "support embed"]
    known: Known
    estimate: dict[str, Any] | None
    fingerprint: str


@dataclass(frozen=True)
class Shop:
    """What all tasks of a fleet are made with."""

    learner: Learner
    model: Path
    settings: Settings
    base: dict[str, Any]  # metadata that is the same for all

    @classmethod
    def open(cls, model: Path, settings: Settings) -> Shop:
        learner = Learner.load(model)
        base = describe(
            learner,
            model,
            TaskCard("", ["", ""], 0, False, None),
            settings.export,
            metrics={"validation": read_json(model / "metrics.json")["validation"]},
            params={"export": settings.export.model_dump(mode="json")},
            provenance={"data": data_version(), "git": commit()},
        )
        return cls(learner, model, settings, base)

    def metadata(self, solved: Solved) -> dict[str, Any]:
        ways, estimate = len(solved.support.labels), solved.estimate
        task = {"name": solved.name, "n_way": ways, "support_examples": len(solved.support.images)}
        outputs = dict(self.base["outputs"])
        outputs[verify.OUTPUTS[0]] = outputs[verify.OUTPUTS[0]] | {"shape": ["batch", ways]}
        return self.base | {
            "task": self.base["task"] | task,
            "outputs": outputs,
            "metrics": self.base["metrics"] | {"task": estimate, "estimate": estimate},
            "fleet": {"fingerprint": solved.fingerprint},
        }

    def fingerprint(self, support: Support) -> str:
        """Of a task's examples, and of all that a bundle is made with, the code among it."""
        made_with = [self.base[name] for name in ("format", "learner", "onnx", "libraries")]
        about = [*made_with, self.base["provenance"]["model_sha256"], support.labels, support.ways.tolist()]
        hashed = hashlib.sha256(json.dumps([digest(CODE), *about], sort_keys=True).encode())
        hashed.update(support.images.tobytes())
        return hashed.hexdigest()


@functools.lru_cache(maxsize=1)
def shop(model: str) -> Shop:
    """Opened once in each process, with the settings of the project that it is in."""
    return Shop.open(Path(model), load_settings())


def make_bundles(folders: Sequence[str], out: str, model: str) -> list[Outcome]:
    """Learn a part of a fleet and write each task's bundle; what fails does not stop the others."""
    makers = shop(model)
    template = Template(body_of(makers.learner), makers.settings.export) if makers.learner.method.frozen else None
    supports, outcomes = read(makers, folders)
    rest = {}
    for name, support in supports.items():
        there = _there(Path(out) / name, makers.fingerprint(support))
        if there:
            outcomes.append(there)
        else:
            rest[name] = support
    for solved in solve(makers, rest):
        try:
            outcomes.append(_write(makers, solved, Path(out) / solved.name, template))
        except (MetaloomError, OSError) as error:
            outcomes.append(Outcome(solved.name, FAILED, str(error)))
    return outcomes


def read(makers: Shop, folders: Sequence[str]) -> tuple[dict[str, Support], list[Outcome]]:
    """The tasks by name, and those that cannot be read."""
    network, supports, failed = makers.learner.method.network, {}, []
    for folder in map(Path, folders):
        try:
            supports[folder.name] = read_support(folder, network.shape[0], network.shape[-1])
        except MetaloomError as error:
            failed.append(Outcome(folder.name, FAILED, str(error)))
    return supports, failed


def solve(makers: Shop, supports: Mapping[str, Support]) -> Iterator[Solved]:
    """Learn tasks."""
    adapt = _solved_together if makers.learner.method.frozen else _solved_alone
    solved = adapt(makers, list(supports.values()))
    for (name, support), (task, z, estimate) in zip(supports.items(), solved, strict=True):
        known = Known.of(z.double(), torch.as_tensor(support.ways), len(support.labels))
        yield Solved(name, support, task, z, known, estimate, makers.fingerprint(support))


def _solved_alone(makers: Shop, supports: list[Support]) -> Iterable[tuple[AdaptedTask, Tensor, Any]]:
    for support in supports:
        task = makers.learner.adapt(support.images, support.ways)
        with torch.no_grad():
            x = task.encoding(torch.as_tensor(support.images))
            z, _ = task.model.network(task.model.weights, x, task.model.statistics)
        yield task, z, cross_validated(makers.learner, support.images, support.ways, makers.settings.seed)


def _solved_together(makers: Shop, supports: list[Support]) -> Iterable[tuple[AdaptedTask, Tensor, Any]]:
    learner = makers.learner
    if not supports:
        return
    images = np.concatenate([support.images for support in supports])
    parts = learner.embed(torch.as_tensor(images), np.arange(len(images))).split([len(s.images) for s in supports])
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, support in enumerate(supports):
        alike.setdefault(tuple(support.ways.tolist()), []).append(place)
    heads: dict[int, Head] = {}
    for ways, places in alike.items():
        z, y = torch.stack([parts[place] for place in places]).double(), torch.tensor(ways)
        with torch.no_grad():
            head = learner.method.head(learner.params, z, y, max(ways) + 1)
        factor = 1 / learner.temperature(max(ways) + 1, len(ways) / (max(ways) + 1))
        weight, bias = head.weight.expand(len(places), -1, -1), head.bias.expand(len(places), -1)
        heads |= {place: Head(weight[i] * factor, bias[i] * factor) for i, place in enumerate(places)}
    body = body_of(learner)
    for place, support in enumerate(supports):
        model = TaskModel(body.model.network, body.model.weights, body.model.statistics, heads[place])
        task = AdaptedTask(model, learner.encoding, list(range(len(support.labels))))
        estimate = cross_validated_embeddings(learner, parts[place], support.ways, makers.settings.seed)
        yield task, parts[place], estimate


def _there(bundle: Path, fingerprint: str) -> Outcome | None:
    """What stands there already, made of the same."""
    try:
        metadata = json.loads((bundle / verify.METADATA).read_bytes())
    except (OSError, ValueError):
        return None
    if metadata.get("fleet", {}).get("fingerprint") != fingerprint or verify.check_files(bundle):
        return None
    return Outcome(bundle.name, KEPT, estimate=accuracy(metadata["metrics"]["task"]), size=size_of(bundle))


def _write(makers: Shop, solved: Solved, folder: Path, template: Template | None) -> Outcome:
    export = makers.settings.export
    metadata = makers.metadata(solved)
    template = template or Template(solved.task, export)
    labels = solved.support.labels
    graph = template.filled(head_tensors(solved.task.model.head, solved.known), len(labels), about(labels, metadata))
    with atomic_dir(folder.absolute()) as new:
        rows = np.unique(solved.support.ways, return_index=True)[1][:GOLDEN]
        probabilities, unlike = answers(solved, rows)
        interface = verify.INTERFACES[verify.MODEL]
        save_sample(
            new / verify.SAMPLES, "examples", interface, (solved.support.images[rows],), (probabilities, unlike)
        )
        put_together(new, {verify.MODEL: graph}, {verify.MODEL: TOLERANCE}, labels, metadata)
        problems = verify.verify(new, with_onnx=False).problems  # the template has passed ONNX's checker
        if problems:
            raise MetaloomError(f"its bundle does not verify: {'; '.join(problems)}")
        size = size_of(new)
    return Outcome(solved.name, MADE, estimate=accuracy(solved.estimate), size=size)


def answers(solved: Solved, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For some of its support examples, by torch."""
    z = solved.z[torch.as_tensor(rows)].double()
    probabilities = Head(*(each.double() for each in solved.task.model.head)).logits(z).softmax(dim=1)
    return probabilities.numpy().astype(np.float32), solved.known.score(z).numpy().astype(np.float32)


def accuracy(estimate: dict[str, Any] | None) -> float | None:
    return None if estimate is None else float(estimate["accuracy"])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_summary(out: Path, outcomes: Sequence[Outcome]) -> None:
    write_json(out / SUMMARY, {"tasks": [vars(each) for each in sorted(outcomes, key=lambda each: each.task)]})
