"""Write a bundle: whole and verified, or not at all. The same inputs give the same bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from metaloom.config import ExportSettings
from metaloom.data.resize import resize
from metaloom.errors import MetaloomError
from metaloom.handoff import verify
from metaloom.handoff.card import model_card
from metaloom.handoff.graph import to_onnx
from metaloom.handoff.provenance import libraries, sha256
from metaloom.io import atomic_dir, write_json
from metaloom.methods import Learner
from metaloom.methods.learner import AdaptedTask

TOLERANCE = 1e-4  # float32 on another processor; on the one that made it, differences are below 1e-5
SAMPLES = 8


@dataclass(frozen=True)
class TaskCard:
    """What is known about the task beside its model.

    Args:
        name: of the task, a domain or a folder.
        labels: class names in the order of the model's outputs.
        support: number of labelled examples the model learned from.
        meta_trained_on_it: whether the meta-learner has seen these classes while it was trained.
        accuracy: of this very model, from metaloom.methods.estimate; None when it could not be measured.
    """

    name: str
    labels: list[str]
    support: int
    meta_trained_on_it: bool
    accuracy: dict[str, Any] | None


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
        },
        "input": {
            "name": verify.INPUT,
            "type": "uint8",
            "shape": ["batch", "height", "width", network.channels],
            "channels": network.channels,
            "image_size": network.image_size,
            "description": _input_text(network.channels, network.image_size),
        },
        "output": {"name": verify.OUTPUT, "type": "float32", "shape": ["batch", len(card.labels)]},
        "onnx": {"opset": export.opset, "ir_version": export.ir_version},
        "tolerance": TOLERANCE,
        "metrics": {"task": card.accuracy, **metrics},
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


def write_bundle(
    folder: str | Path,
    task: AdaptedTask,
    examples: UInt8[np.ndarray, "example height width channel"],
    labels: list[str],
    metadata: dict[str, Any],
) -> str:
    """Write, verify, then put in place.

    Args:
        folder: where; a bundle that stands there is replaced.
        task: the task model.
        examples: raw images for the golden samples, at the network's size.
        labels: class names in the order of the outputs.
        metadata: from `describe`.

    Returns:
        A line of what was verified.

    Raises:
        MetaloomError: the bundle does not verify, or versions of ONNX do not fit; `folder` is as it was.
    """
    with atomic_dir(Path(folder).absolute()) as new:
        onnx = to_onnx(task, metadata["onnx"]["opset"], metadata["onnx"]["ir_version"], _about(labels, metadata))
        (new / verify.MODEL).write_bytes(onnx)
        write_json(new / verify.LABELS, labels)
        write_json(new / verify.METADATA, metadata)
        _write_samples(new / "samples", task, examples[:SAMPLES], metadata["input"]["image_size"])
        (new / "MODEL_CARD.md").write_text(model_card(metadata, labels), encoding="utf-8")
        shutil.copyfile(verify.__file__, new / "verify.py")
        _write_sums(new)
        verdict = verify.verify(new)
        if verdict.problems:
            problems = "; ".join(verdict.problems)
            raise MetaloomError(f"{folder} is unchanged, the new bundle does not verify: {problems}")
    return verdict.summary


def _about(labels: list[str], metadata: dict[str, Any]) -> dict[str, str]:
    """metadata_props of the ONNX file, for whoever gets that file alone."""
    git = metadata["provenance"].get("git") or {}
    about = {
        "metaloom.format": metadata["format"],
        "metaloom.method": metadata["method"],
        "metaloom.task": metadata["task"]["name"],
        "metaloom.labels": json.dumps(labels, ensure_ascii=False),
        "metaloom.input": metadata["input"]["description"],
        "metaloom.data": metadata["provenance"].get("data"),
        "metaloom.commit": git.get("commit"),
    }
    return {name: value for name, value in about.items() if value is not None}


def _write_samples(
    folder: Path, task: AdaptedTask, examples: UInt8[np.ndarray, "example height width channel"], size: int
) -> None:
    """Golden samples; what is expected comes from torch in float64 and metaloom.data.resize, not from the graph."""
    folder.mkdir()
    exact = replace(task, model=task.model.double())
    doubled = examples[:2].repeat(2, axis=1).repeat(3, axis=2)
    samples = {"examples": examples, "not_square": doubled[:, 1:, :-5], "one_pixel": examples[:1, :1, :1]}
    for name, images in samples.items():
        np.save(folder / f"{name}.images.npy", np.ascontiguousarray(images))
        np.save(folder / f"{name}.probabilities.npy", exact.predict_proba(resize(images, size)).astype(np.float32))


def _write_sums(folder: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    text = "".join(f"{sha256(folder / name)}  {name}\n" for name in files)
    (folder / verify.SUMS).write_text(text)
