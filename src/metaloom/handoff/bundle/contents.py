"""What goes into a bundle, and what all bundles of one meta-learner have in common."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from pydantic import ValidationError

from metaloom.config import Settings, first_problem
from metaloom.data.support import Support
from metaloom.errors import MetaloomError
from metaloom.handoff.graphs.costs import Trial
from metaloom.handoff.graphs.novelty import Novelty
from metaloom.handoff.graphs.onnxfile import DIGESTS
from metaloom.handoff.metadata import (
    Accuracy,
    Commit,
    Input,
    Metadata,
    Metrics,
    Provenance,
    Task,
    Validation,
    Versions,
    outputs,
)
from metaloom.handoff.shipped.verify import INPUT
from metaloom.kinds.encoding import Encoding
from metaloom.learner import AdaptedTask, Learner, validation_of
from metaloom.networks.engine import choose_engine
from metaloom.system.files import makes_again, sha256
from metaloom.system.provenance import commit, data_version, libraries
from metaloom.system.source_files import noted_digest

CODE = "metaloom.handoff.adapting"  # the package whose code makes the bundles

# in float32 on another processor; on the one that made a bundle, differences are below 1e-5 (2e-4 after many steps)
TOLERANCE, TOLERANCE_OF_STEPS = 1e-4, 1e-3


@dataclass(frozen=True)
class TaskCard:
    """What is known about the task beside its model.

    Args:
        name: of the task, a domain or a folder.
        labels: class names in the order of the model's outputs.
        support: number of labelled examples that the model learned from.
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
class Contents:
    """What goes into the bundle of one task.

    Args:
        task: the adapted model.
        novelty: of its support set.
        support_x: its labelled examples, packed.
        support_y: the way of each.
        examples: packed ones for the golden samples.
        labels: class names in the order of the outputs.
        metadata: from `Maker.describe`.
        learner: for the graphs that learn; None leaves them out.
        asked: what variants are calibrated with and measured on; None leaves them out.
    """

    task: AdaptedTask
    novelty: Novelty
    support_x: Shaped[np.ndarray, "support ..."]
    support_y: Int[np.ndarray, " support"]
    examples: Shaped[np.ndarray, "example ..."]
    labels: list[str]
    metadata: Metadata
    learner: Learner | None = None
    asked: Trial | None = None


@dataclass(frozen=True)
class Maker:
    """A meta-learner, and what all its bundles have in common.

    Args:
        learner: that adapts.
        settings: for the versions of ONNX and the seed of the cross-validation.
        metrics: of the meta-learner: validation, and where known evaluation and domains.
        params: settings that the metadata shows.
        provenance: data, commit and the meta-learner's own file.
        libraries: versions.
    """

    learner: Learner
    settings: Settings
    metrics: dict[str, Any]
    params: dict[str, Any]
    provenance: Provenance
    libraries: dict[str, str]

    @classmethod
    def open(
        cls, model: Path, settings: Settings, metrics: dict[str, Any] | None = None, params: dict | None = None
    ) -> Maker:
        """A maker of bundles from a meta-learner's folder, as the train stage writes it.

        Args:
            model: the folder.
            settings: of the project that this is.
            metrics: beside those of validation.
            params: settings to show; without them those of export.

        Raises:
            MetaloomError: it cannot be read.
        """
        choose_engine(settings.engine)
        learner = Learner.load(model)
        validation = _validation(model)
        git = commit()
        provenance = Provenance(
            data=data_version(),
            git=None if git is None else Commit(**git),
            model_sha256=sha256(model / "model.safetensors"),
        )
        shown = params or {"export": settings.export.model_dump(mode="json")}
        return cls(learner, settings, {"validation": validation} | (metrics or {}), shown, provenance, libraries())

    def describe(self, card: TaskCard, fingerprint: str | None = None) -> Metadata:
        """A task's metadata, but for what there is to say about its graphs."""
        ways, export = len(card.labels), self.settings.export
        return Metadata(
            method=self.learner.name,
            task=Task(
                name=card.name,
                n_way=ways,
                support_examples=card.support,
                meta_trained_on_it=card.meta_trained_on_it,
                chosen_on_it=card.chosen_on_it,
            ),
            input=_input(self.learner.encoding),
            outputs=outputs(ways),
            onnx=Versions(opset=export.opset, ir_version=export.ir_version),
            max_ways=export.max_ways,
            metrics=Metrics(task=_accuracy(card.accuracy), estimate=_accuracy(card.estimate), **self.metrics),
            provenance=self.provenance,
            learner=self.learner.config,
            params=self.params,
            libraries=self.libraries,
            fingerprint=fingerprint,
        )

    def fingerprint(self, support: Support) -> str:
        """Hash of a task's examples and of all that its bundle is made with, the code among it."""
        card = TaskCard("", support.labels, len(support.ways), False, None)
        same = self.describe(card).plain()
        made_with = [same[name] for name in ("format", "learner", "onnx", "libraries")]
        about = [*made_with, self.provenance.model_sha256, support.labels, support.ways.tolist()]
        hashed = hashlib.sha256(json.dumps([noted_digest(DIGESTS, CODE), *about], sort_keys=True).encode())
        hashed.update(support.examples.tobytes())
        return hashed.hexdigest()


def _validation(model: Path) -> dict[str, Any]:
    """The same as `validation_of`, with all that a bundle's metadata says of it."""
    found = validation_of(model)
    try:
        return Validation.model_validate(found).model_dump(exclude_unset=True)
    except ValidationError as error:
        path, stage = model / "metrics.json", f"train@{model.name}"
        raise MetaloomError(f"{path} is damaged: {first_problem(error)}: {makes_again(stage)}") from None


def about(metadata: Metadata, labels: list[str]) -> dict[str, str]:
    """metadata_props of an ONNX file, for whoever gets that file alone; of no labels where it knows none."""
    git = metadata.provenance.git
    known = {
        "metaloom.format": metadata.format,
        "metaloom.method": metadata.method,
        "metaloom.task": metadata.task.name,
        "metaloom.labels": json.dumps(labels, ensure_ascii=False) if labels else None,
        "metaloom.input": metadata.input.description,
        "metaloom.data": metadata.provenance.data,
        "metaloom.commit": None if git is None else git.commit,
    }
    return {name: value for name, value in known.items() if value is not None}


def _input(encoding: Encoding) -> Input:
    own = {"name": INPUT, "type": encoding.raw_type, "shape": list(encoding.raw), "description": encoding.in_words()}
    return Input(**encoding.saved() | own | encoding.told())


def _accuracy(measured: dict[str, Any] | None) -> Accuracy | None:
    return None if measured is None else Accuracy(**measured)
