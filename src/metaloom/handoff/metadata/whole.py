"""All of metadata.json, and its parts but for the figures."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from metaloom.config import first_problem
from metaloom.errors import MetaloomError
from metaloom.handoff.metadata.base import Open, Strict
from metaloom.handoff.metadata.figures import Cost, Metrics
from metaloom.handoff.shipped.verify import FORMAT, METADATA, OUTPUTS


class Task(Strict):
    """The task that a bundle is for; a bundle of many names them all together, with the most classes that one has."""

    name: str
    n_way: int
    support_examples: int
    meta_trained_on_it: bool  # whether the meta-learner has seen these classes while it was trained
    chosen_on_it: bool  # whether the meta-learner and its temperature were chosen on these classes


class Input(Open):
    """A batch of raw examples; beside these fields stand the kind's settings and its fitted numbers.

    One more, `reading`, says how the training data were read where that had to be decided.

    Args:
        kind: of example, as in params.
        name: of the graphs' input.
        type: numpy's name.
        shape: of a batch, with names for sizes that may vary.
        description: what a caller gives, in a sentence.
    """

    kind: str
    name: str
    type: str
    shape: list[str | int]
    description: str


class Output(Strict):
    """One output of a graph; names in `shape` stand for sizes that vary."""

    type: str
    shape: list[str | int]
    description: str | None = None


class Versions(Strict):
    """The versions of ONNX that all graphs of a bundle have in common."""

    opset: int
    ir_version: int


class Commit(Strict):
    """The project's commit, and whether code or settings differed from it."""

    commit: str
    uncommitted_changes: bool


class Provenance(Strict):
    """What a bundle was made of: data version, commit, and the file of the meta-learner."""

    data: str | None  # md5 of the data version; None where it is not known
    git: Commit | None
    model_sha256: str


class Taken(Strict):
    """What a graph takes that takes no raw examples."""

    name: str
    type: str
    shape: list[int]
    description: str


class Graph(Strict):
    """One ONNX file; `samples` names the golden samples that it is asked, where it is not all; `input` is what it
    takes, where that is not what all take."""

    tolerance: float
    bytes: Annotated[int, Field(ge=0, lt=2**63)]
    samples: list[str] | None = None
    input: Taken | None = None


class FleetTask(Strict):
    """A task of a bundle of many, with its cross-validated accuracy."""

    name: str
    estimate: float | None


class Metadata(Strict):
    """All of metadata.json.

    Args:
        format: of the bundle.
        method: of the meta-learner, as in params.
        task: that the bundle is for.
        input: of the graphs.
        outputs: of the graphs, by name.
        onnx: versions of the graphs.
        max_ways: classes that the graphs that learn can tell apart.
        metrics: how good it is.
        provenance: what it was made of.
        learner: what the meta-learner's learner.json holds.
        params: settings that it was made with.
        libraries: versions that it was made with.
        fingerprint: of the task's examples and all that the bundle was made with, so that none is made twice.
        tasks: of a bundle of many.
        variants: what the smaller forms of model.onnx cost, by file.
        graphs: by file.
    """

    format: str = str(FORMAT)
    method: str
    task: Task
    input: Input
    outputs: dict[str, Output]
    onnx: Versions
    max_ways: int
    metrics: Metrics
    provenance: Provenance
    learner: dict[str, Any]
    params: dict[str, Any]
    libraries: dict[str, str]
    fingerprint: str | None = None
    tasks: list[FleetTask] = []
    variants: dict[str, Cost] = {}
    graphs: dict[str, Graph] = {}

    @field_validator("learner")
    @classmethod
    def _names_its_parts(cls, learner: dict[str, Any]) -> dict[str, Any]:
        network = learner.get("network")
        if not isinstance(learner.get("method"), dict) or not isinstance(network, dict):
            raise ValueError("lacks its method or its network")
        if not {"name", "width"} <= network.keys():
            raise ValueError("its network lacks name or width")
        return learner

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON; fields that say nothing are left out."""
        return {"format": self.format} | self.model_dump(mode="json", exclude_defaults=True)


def with_reading(metadata: Metadata, reading: str | None) -> Metadata:
    """The same, with how the training data were read; None: there is nothing to say."""
    if reading is None:
        return metadata
    return metadata.model_copy(update={"input": metadata.input.model_copy(update={"reading": reading})})


def outputs(n_way: int) -> dict[str, Output]:
    """Outputs of every graph that answers, for so many classes."""
    novelty = (
        "distance to the nearest class, in units of how far its own examples are from it (1 is usual; several times "
        "that means unlike anything it has learned)"
    )
    return {
        OUTPUTS[0]: Output(type="float32", shape=["batch", n_way]),
        OUTPUTS[1]: Output(type="float32", shape=["batch"], description=novelty),
    }


def read_metadata(raw: dict[str, Any]) -> Metadata:
    """What `Metadata.plain` gave, which verify.py has looked at already.

    Raises:
        MetaloomError: a field is missing or of another type.
    """
    try:
        return Metadata.model_validate(raw)
    except ValidationError as error:
        raise MetaloomError(f"{METADATA} is damaged: {first_problem(error)}; get a whole copy of the bundle") from None
