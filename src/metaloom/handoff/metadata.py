"""metadata.json of a bundle: what a receiver may want to know, typed. Format 3; reading it needs no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from metaloom.config import first_problem
from metaloom.errors import MetaloomError
from metaloom.handoff.shipped.verify import FORMAT, METADATA, OUTPUTS
from metaloom.system.certainty import few_test_classes, of_other_classes
from metaloom.system.quantities import with_interval


class Strict(BaseModel):
    """A part that has these fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Open(BaseModel):
    """A part that may have further fields: those of a kind of example, or further figures."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


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


class Accuracy(Strict):
    """The accuracy of one task's model, from metaloom.learner.estimate; shares of 1.

    Args:
        kind: how it was measured.
        accuracy: share of right answers.
        low95: lower end of its 95% interval.
        high95: upper end.
        examples: that were asked.
        folds: of the cross-validation.
    """

    kind: Literal["held_out", "cross_validation"]
    accuracy: float
    low95: float
    high95: float
    examples: int
    folds: int | None = None


class Score(Open):
    """The meta-learner's score over episodes; `ci95` is the half width of the 95% interval, None where there is none.

    `classes` were asked about; `classes_low95` and `classes_high95` are the ends of the interval over classes.

    All is None where no episode was answered.
    """

    accuracy: float | None
    ci95: float | None = None
    nll: float | None
    episodes: int
    classes: int | None = None
    classes_low95: float | None = None
    classes_high95: float | None = None

    @property
    def few_classes(self) -> bool:
        """Whether the interval over episodes says little about other classes than those that were asked about."""
        return few_test_classes(self.classes)

    @property
    def in_words(self) -> str:
        """The accuracy with its interval, and the one over classes where these are few."""
        if self.accuracy is None:
            return "not measured"
        others = of_other_classes(self.classes, self.classes_low95, self.classes_high95)
        return with_interval(self.accuracy, self.ci95) + (f" ({others})" if others else "")


class Validation(Score):
    """The score on the validation episodes that chose the model: the best of so many looks at them."""

    setting: str
    looks: int | None = None


class DomainScore(Open):
    """The meta-learner's score on test queries of one domain, in one setting; shares of 1."""

    setting: str
    domain: str
    accuracy: float
    low95: float | None
    high95: float | None
    queries: int


class Rival(Open):
    """The best that does without meta-learning, on test episodes of a setting.

    Args:
        setting: that was asked.
        learner: its name, as in params.
        difference: the meta-learner's accuracy less its own, over the episodes that both answered.
        ci95: half width of the 95% interval of that; None where there is none.
        classes_ci95: of the one over classes, where these are few.
        episodes: that both answered.
    """

    setting: str
    learner: str
    difference: float
    ci95: float | None
    classes_ci95: float | None = None
    episodes: int


class Metrics(Strict):
    """How good it is.

    Args:
        task: of this very model; None where it could not be measured.
        estimate: cross-validated on the support set alone; None where a class has a single example.
        validation: of the meta-learner.
        evaluation: of the meta-learner on test episodes, by setting.
        domains: the same by domain.
        rival: the best that does without meta-learning; None where it is not known.
    """

    task: Accuracy | None
    estimate: Accuracy | None
    validation: Validation
    evaluation: dict[str, Score] = {}
    domains: list[DomainScore] = []
    rival: Rival | None = None


class Commit(Strict):
    """The project's commit, and whether code or settings differed from it."""

    commit: str
    uncommitted_changes: bool


class Provenance(Strict):
    """What a bundle was made of: data version, commit, and the file of the meta-learner."""

    data: str | None  # md5 of the data version; None where it is not known
    git: Commit | None
    model_sha256: str


class Graph(Strict):
    """One ONNX file; `samples` names the golden samples that it is asked, where it is not all."""

    tolerance: float
    bytes: Annotated[int, Field(ge=0, lt=2**63)]
    samples: list[str] | None = None


class Cost(Strict):
    """What a variant saves and what it costs; the accuracies are of the same episodes.

    Args:
        bytes: of the file.
        smaller: than model.onnx, by this factor.
        milliseconds: median for one example, one thread.
        milliseconds_of_model: model.onnx beside it in the same run.
        difference: of the mean accuracy, variant less model.onnx.
        ci95: half width of its 95% interval, paired by episode; None where there is none.
        episodes: that were asked.
    """

    bytes: int
    smaller: float
    milliseconds: float
    milliseconds_of_model: float
    difference: float
    ci95: float | None
    episodes: int


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
        """For JSON; fields that say nothing are left out."""
        return {"format": self.format} | self.model_dump(mode="json", exclude_defaults=True)


def with_reading(metadata: Metadata, reading: str | None) -> Metadata:
    """The same, with how the training data were read; None: there is nothing to say."""
    if reading is None:
        return metadata
    return metadata.model_copy(update={"input": metadata.input.model_copy(update={"reading": reading})})


def outputs(n_way: int) -> dict[str, Output]:
    """Those of every graph that answers, for so many classes."""
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
