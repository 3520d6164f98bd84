"""Write a bundle: whole and verified, or not at all. The same inputs give the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from metaloom.config import ExportSettings
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.card import model_card
from metaloom.handoff.bundle.golden import write_learning_samples, write_samples
from metaloom.handoff.bundle.page import write_page
from metaloom.handoff.bundle.signing import sign
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import known_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.graphs.variants import Asked, variant_tolerance, variants
from metaloom.handoff.shipped import verify
from metaloom.learner import Learner
from metaloom.learner.learner import AdaptedTask
from metaloom.system.files import atomic_dir, write_json
from metaloom.system.provenance import libraries, sha256
from metaloom.system.terminal import say

# in float32 on another processor; on the one that made a bundle, differences are below 1e-5 (2e-4 after many steps)
TOLERANCE, TOLERANCE_OF_STEPS = 1e-4, 1e-3


@dataclass(frozen=True)
class TaskCard:
    """What is known about the task beside its model.

    Args:
        name: of the task, a domain or a folder.
        labels: class names in the order of the model's outputs.
        support: number of labelled examples the model learned from.
        meta_trained_on_it: whether the meta-learner has seen these classes while it was trained.
        accuracy: of this very model, from metaloom.learner.estimate; None when it could not be measured.
        estimate: cross-validated on the support set alone; None where a class has a single example.
        chosen_on_it: whether the meta-learner and its temperature were chosen on these classes: those of validation.
    """

    name: str
    labels: list[str]
    support: int
    meta_trained_on_it: bool
    accuracy: dict[str, Any] | None
    estimate: dict[str, Any] | None = None
    chosen_on_it: bool = False


@dataclass(frozen=True)
class Handoff:
    """What goes into a bundle.

    Args:
        task: the adapted model.
        support_x: its labelled examples, raw and at the network's size.
        support_y: the way of each.
        examples: raw images for the golden samples, at the network's size.
        labels: class names in the order of the outputs.
        metadata: from `describe`.
        learner: for the graphs that learn; None leaves them out.
        asked: what variants are calibrated with and measured on; None leaves them out.
    """

    task: AdaptedTask
    support_x: UInt8[np.ndarray, "support height width channel"]
    support_y: Int[np.ndarray, " support"]
    examples: UInt8[np.ndarray, "example height width channel"]
    labels: list[str]
    metadata: dict[str, Any]
    learner: Learner | None = None
    asked: Asked | None = None


def describe(
    learner: Learner,
    model: str | Path,
    card: TaskCard,
    export: ExportSettings,
    *,
    metrics: dict[str, Any],
    params: dict[str, Any],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """metadata.json: everything that a receiver may want to know, as plain values."""
    network = learner.method.network
    return {
        "format": str(verify.FORMAT),
        "method": learner.name,
        "task": {
            "name": card.name,
            "n_way": len(card.labels),
            "support_examples": card.support,
            "meta_trained_on_it": card.meta_trained_on_it,
            "chosen_on_it": card.chosen_on_it,
        },
        "input": {
            "name": verify.INPUT,
            "type": "uint8",
            "shape": ["batch", "height", "width", network.shape[0]],
            "channels": network.shape[0],
            "image_size": network.shape[-1],
            "description": _input_text(network.shape[0], network.shape[-1]),
        },
        "outputs": {
            verify.OUTPUTS[0]: {"type": "float32", "shape": ["batch", len(card.labels)]},
            verify.OUTPUTS[1]: {
                "type": "float32",
                "shape": ["batch"],
                "description": "distance to the nearest class, in units of how far its own examples are from it; "
                "1 is as usual, several times that is like nothing it has learned",
            },
        },
        "onnx": {"opset": export.opset, "ir_version": export.ir_version},
        "max_ways": export.max_ways,
        "metrics": {"task": card.accuracy, "estimate": card.estimate, **metrics},
        "provenance": {**provenance, "model_sha256": sha256(Path(model) / "model.safetensors")},
        "learner": learner.config,
        "params": params,
        "libraries": libraries(),
    }


def _input_text(channels: int, size: int) -> str:
    kind = "grey" if channels == 1 else "red, green, blue"
    return (
        f"raw pixels 0-255 ({kind}), transparency on white; any height and width: the graph resizes to "
        f"{size}x{size} and normalises. All images of a batch have the same size."
    )


def write_bundle(folder: str | Path, handoff: Handoff, export: ExportSettings) -> str:
    """Write, verify, then put in place.

    Args:
        folder: where; a bundle that stands there is replaced.
        handoff: what goes into it.
        export: versions of ONNX and the largest number of ways.

    Returns:
        A line of what was verified.

    Raises:
        MetaloomError: the bundle does not verify, or versions of ONNX do not fit; `folder` is as it was.
    """
    with atomic_dir(Path(folder).absolute()) as new:
        fill_folder(new, handoff, export)
        verdict = verify.verify(new)
        if verdict.problems:
            problems = "; ".join(verdict.problems)
            raise MetaloomError(f"{folder} is unchanged, the new bundle does not verify: {problems}")
        if export.key:
            sign(new, export.key)
    return verdict.summary


def fill_folder(folder: Path, handoff: Handoff, export: ExportSettings) -> None:
    """All files of a bundle, the checksums last."""
    known = known_of(handoff.task, handoff.support_x, handoff.support_y)
    graphs = {verify.MODEL: to_onnx(handoff.task, known, export, about(handoff.labels, handoff.metadata))}
    tolerances = dict.fromkeys(verify.INTERFACES, TOLERANCE)
    write_samples(folder / verify.SAMPLES, handoff, known)
    if handoff.learner:
        graphs |= learning_graphs(handoff.learner, export, about([], handoff.metadata))
        write_learning_samples(folder / verify.SAMPLES, handoff.learner, handoff, export.max_ways)
        if not handoff.learner.method.frozen:
            tolerances[verify.ADAPT] = TOLERANCE_OF_STEPS
    costs = {}
    if handoff.asked and handoff.learner:
        own = about(handoff.labels, handoff.metadata)
        made = variants(graphs[verify.MODEL], handoff.learner, handoff.asked, export, own)
        graphs |= {name: data for name, (data, _) in made.items()}
        costs = {name: cost for name, (_, cost) in made.items()}
        tolerances |= {name: variant_tolerance(data, folder / verify.SAMPLES) for name, (data, _) in made.items()}
    if export.page:
        _write_page(folder, graphs, handoff, insist=export.page is True)
    put_together(folder, graphs, tolerances, handoff.labels, handoff.metadata | {"variants": costs})


def _write_page(folder: Path, graphs: Mapping[str, bytes], handoff: Handoff, insist: bool) -> None:
    """The page, or a line of why there is none."""
    try:
        write_page(folder, graphs, handoff.labels, handoff.metadata)
    except MetaloomError as error:
        if insist:
            raise
        say(f"the bundle has no index.html: {error}")


def put_together(
    folder: Path,
    graphs: Mapping[str, bytes],
    tolerances: Mapping[str, float],
    labels: list[str] | dict[str, list[str]],
    metadata: dict[str, Any],
) -> None:
    """All files of a bundle but its samples, which are there already; the checksums last.

    Args:
        folder: of the bundle.
        graphs: by the names of their files.
        tolerances: of the graphs.
        labels: class names in the order of the outputs.
        metadata: without what there is to say about the graphs.
    """
    described = {name: {"tolerance": tolerances[name], "bytes": len(data)} for name, data in graphs.items()}
    metadata = metadata | {"graphs": described}
    for name, data in graphs.items():
        (folder / name).write_bytes(data)
    write_json(folder / verify.LABELS, labels)
    write_json(folder / verify.METADATA, metadata)
    (folder / "MODEL_CARD.md").write_text(model_card(metadata, labels), encoding="utf-8")
    for source in (verify.__file__, str(Path(verify.__file__).with_name("example.py"))):
        shutil.copyfile(source, folder / Path(source).name)
    write_sums(folder)


def about(labels: list[str], metadata: dict[str, Any]) -> dict[str, str]:
    """metadata_props of the ONNX file, for whoever gets that file alone."""
    git = metadata["provenance"].get("git") or {}
    known = {
        "metaloom.format": metadata["format"],
        "metaloom.method": metadata["method"],
        "metaloom.task": metadata["task"]["name"],
        "metaloom.labels": json.dumps(labels, ensure_ascii=False) if labels else None,
        "metaloom.input": metadata["input"]["description"],
        "metaloom.data": metadata["provenance"].get("data"),
        "metaloom.commit": git.get("commit"),
    }
    return {name: value for name, value in known.items() if value is not None}


def write_sums(folder: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    text = "".join(f"{sha256(folder / name)}  {name}\n" for name in files)
    (folder / verify.SUMS).write_text(text)
