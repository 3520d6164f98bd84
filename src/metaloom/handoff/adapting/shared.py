"""Many tasks in one bundle: one network and all heads; `task_id` selects an example's head.

Heads are learned in parts, and each part is kept in a file until the bundle is written: an interrupted fleet goes on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from metaloom.data.support import Support
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting.fleet import GOLDEN, Outcome, Status, accuracy, maker_of, read, write_summary
from metaloom.handoff.adapting.solve import answers, solve
from metaloom.handoff.bundle.contents import TOLERANCE, Maker, TaskCard, about
from metaloom.handoff.bundle.golden import save_sample
from metaloom.handoff.bundle.write import GraphFile, put_together, verified
from metaloom.handoff.graphs.learning import body_of
from metaloom.handoff.graphs.novelty import FAR
from metaloom.handoff.graphs.task import fleet_to_onnx, head_tensors
from metaloom.handoff.metadata import FleetTask, Metadata
from metaloom.handoff.shipped import verify
from metaloom.kinds.encoding import Encoding
from metaloom.methods.model import UNSEEN
from metaloom.system.files import atomic_dir, read_sealed, write_sealed

SOLVED = Path(".metaloom/fleet")
HEADER = 8  # bytes of a safetensors file that say how long its header is


@dataclass(frozen=True)
class SharedHeads:
    """The heads of a part of a fleet, for one bundle of all.

    Args:
        outcomes: of all its tasks.
        labels: class names by task.
        heads: by the names of `verify.HEAD`, task after task.
        golden: packed examples with their probabilities and novelty, of the first few tasks.
    """

    outcomes: list[Outcome]
    labels: dict[str, list[str]]
    heads: dict[str, list[Tensor]]
    golden: list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def solve_part(paths: Sequence[str], model: str) -> SharedHeads:
    """Learn a part of a fleet.

    Raises:
        MetaloomError: the method changes the network for a task, so that tasks cannot share it.
    """
    maker = maker_of(model)
    if not maker.learner.method.frozen:
        raise MetaloomError(f"{maker.learner.name} changes the network for each task: leave out --shared")
    supports, failed = read(maker, paths)
    digest = hashlib.sha256("".join(f"{n}{maker.fingerprint(s)}" for n, s in supports.items()).encode()).hexdigest()
    path = SOLVED / f"{digest}.safetensors"
    part = _read_part(path)
    if part is None:
        part = _part(maker, supports)
        write_sealed(path, _part_as_bytes(part))
    part.outcomes.extend(failed)
    return part


def _part(maker: Maker, supports: Mapping[str, Support]) -> SharedHeads:
    part = SharedHeads([], {}, {name: [] for name in verify.HEAD}, [])
    for solved in solve(maker, supports):
        head = head_tensors(solved.task.model.head, solved.novelty)
        for name, values in part.heads.items():
            values.append(head[name])
        part.outcomes.append(Outcome(solved.name, Status.MADE, estimate=accuracy(solved.estimate), size=_bytes(head)))
        part.labels[solved.name] = solved.support.labels
        if len(part.golden) < GOLDEN:
            part.golden.append((solved.support.examples[:1], *answers(solved, np.zeros(1, int))))
    return part


def _part_as_bytes(part: SharedHeads) -> bytes:
    tensors = {f"{name}/{i}": each for name, values in part.heads.items() for i, each in enumerate(values)}
    tensors |= {
        f"golden/{i}/{j}": torch.as_tensor(each) for i, group in enumerate(part.golden) for j, each in enumerate(group)
    }
    about = {"outcomes": [vars(each) for each in part.outcomes], "labels": part.labels}
    return safetensors.torch.save(tensors, metadata={"about": json.dumps(about)})


def _read_part(path: Path) -> SharedHeads | None:
    """What an interrupted fleet has left; None where there is nothing whole."""
    data = read_sealed(path)
    if data is None:
        return None
    size = int.from_bytes(data[:HEADER], "little")
    about = json.loads(json.loads(data[HEADER : HEADER + size])["__metadata__"]["about"])
    tensors = safetensors.torch.load(data)
    heads = {name: [tensors[f"{name}/{i}"] for i in range(len(about["labels"]))] for name in verify.HEAD}
    count = min(GOLDEN, len(about["labels"]))
    golden = [
        (tensors[f"golden/{i}/0"].numpy(), tensors[f"golden/{i}/1"].numpy(), tensors[f"golden/{i}/2"].numpy())
        for i in range(count)
    ]
    kept = [Outcome(**each | {"status": Status.KEPT}) for each in about["outcomes"]]
    return SharedHeads(kept, about["labels"], heads, golden)


def _bytes(head: dict[str, Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in head.values())


def write_shared(parts: Sequence[SharedHeads], out: Path, model: str, lost: Sequence[Outcome] = ()) -> list[Outcome]:
    """One bundle of all parts, with fleet.json; what stands at `out` is replaced.

    Args:
        parts: of the fleet.
        out: its folder.
        model: folder of the meta-learner.
        lost: tasks of parts that could not be learned.

    Returns:
        What became of each task.

    Raises:
        MetaloomError: no task could be learned, or the bundle does not verify.
    """
    maker, outcomes = maker_of(model), [*(outcome for part in parts for outcome in part.outcomes), *lost]
    labels = {task: names for part in parts for task, names in part.labels.items()}
    if not labels:
        raise MetaloomError("no task could be learned: " + next(outcome.why for outcome in outcomes))
    ways = max(map(len, labels.values()))
    heads = {
        name: torch.stack([_padded(each, ways, PADDING[name]) for part in parts for each in part.heads[name]])
        for name in verify.HEAD
    }
    metadata = _metadata(maker, ways, [o for o in outcomes if not o.failed])
    graph = fleet_to_onnx(body_of(maker.learner), heads, maker.settings.export, about(metadata, []))
    kind = maker.learner.encoding.kind
    with atomic_dir(out.absolute()) as new:
        _save_golden(parts, new / verify.SAMPLES, ways, maker.learner.encoding)
        write_summary(new, [each if each.failed else replace(each, status=Status.MADE) for each in outcomes])
        put_together(new, {verify.FLEET: GraphFile.of(graph, TOLERANCE)}, labels, metadata, kind)
        verified(new, out, with_onnx=False)  # `fleet_to_onnx` has had it checked
    shutil.rmtree(SOLVED, ignore_errors=True)
    return outcomes


def _metadata(maker: Maker, ways: int, made: Sequence[Outcome]) -> Metadata:
    """Metadata of the bundle that all tasks share.

    Args:
        maker: of the bundles.
        ways: of the task that has most.
        made: the tasks.
    """
    card = TaskCard(f"{len(made)} tasks", [""] * ways, 0, False, None)
    tasks = [FleetTask(name=outcome.task, estimate=outcome.estimate) for outcome in made]
    return maker.describe(card).model_copy(update={"tasks": tasks})


PADDING = {"head_weight": 0.0, "head_bias": UNSEEN, "means": 0.0, "absent": FAR, "spread": 0.0}  # of missing classes


def _padded(values: Tensor, ways: int, padding: float) -> Tensor:
    if values.dim() == 0:
        return values
    rest = values.new_full((ways - len(values), *values.shape[1:]), padding)
    return torch.cat([values, rest])


def _save_golden(parts: Sequence[SharedHeads], folder: Path, ways: int, encoding: Encoding) -> None:
    places, first = [], 0
    for part in parts:
        places += range(first, first + len(part.golden))
        first += len(part.labels)
    examples, probabilities, novelty = zip(*(golden for part in parts for golden in part.golden), strict=True)
    padded = [np.pad(each, ((0, 0), (0, ways - each.shape[1]))) for each in probabilities]
    inputs = (encoding.unpacked(np.concatenate(examples)), np.array(places, dtype=np.int64))
    outputs = (np.concatenate(padded), np.concatenate(novelty))
    save_sample(folder, "examples", verify.FLEET, inputs, outputs)
