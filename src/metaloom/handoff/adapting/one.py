"""From a user's folder of labelled pictures to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaloom.config import Settings
from metaloom.handoff.adapting.support import read_support
from metaloom.handoff.bundle.write import Handoff, TaskCard, describe, write_bundle
from metaloom.learner import Learner
from metaloom.learner.estimate import cross_validated
from metaloom.system.files import read_json
from metaloom.system.provenance import commit, data_version


@dataclass(frozen=True)
class Made:
    """What there is to say about a bundle that was written; `repeated`: files left out as repetitions."""

    summary: str
    repeated: list[str]


def adapt_to_folder(
    folder: Path, out: Path, model: Path, settings: Settings, on_step: Callable[[float, str], None]
) -> Made:
    """Adapt a meta-learner to `folder/class/*.png` and write the task model as a bundle.

    Args:
        folder: the labelled pictures.
        out: where the bundle goes; what stands there is replaced.
        model: folder of a meta-learner, as the train stage writes it.
        settings: for the versions of ONNX and the seed of the cross-validation.
        on_step: called with how many of four steps are done, and the name of the next.

    Raises:
        MetaloomError: the folder is no task, the model cannot be read, the bundle does not verify.
    """
    on_step(0, "loading")
    learner = Learner.load(model)
    network = learner.method.network
    on_step(1, "reading pictures")
    support = read_support(folder, network.shape[0], network.shape[-1])
    on_step(2, "cross-validating")
    estimate = cross_validated(learner, support.images, support.ways, settings.seed)
    on_step(3, "writing and verifying")
    name = folder.resolve().name
    card = TaskCard(name, support.labels, len(support.images), False, estimate, estimate)
    metadata = describe(
        learner,
        model,
        card,
        settings.export,
        metrics={"validation": read_json(model / "metrics.json")["validation"]},
        params={"export": settings.export.model_dump(mode="json")},
        provenance={"data": data_version(), "git": commit()},
    )
    task = learner.adapt(support.images, support.ways)
    handoff = Handoff(task, support.images, support.ways, support.images, support.labels, metadata, learner)
    verified = write_bundle(out, handoff, settings.export)
    return Made(f"{_accuracy(estimate)}; verified: {verified}", support.repeated)


def _accuracy(estimate: dict | None) -> str:
    if estimate is None:
        return "accuracy not estimated: that takes two examples of every class"
    return (
        f"{estimate['accuracy']:.1%} right by {estimate['folds']}-fold cross-validation on "
        f"{estimate['examples']} examples (95% interval {estimate['low95']:.1%} to {estimate['high95']:.1%})"
    )
