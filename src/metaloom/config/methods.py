"""The settings of training: what holds for every method, and each method's own hyperparameters."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from metaloom.config.base import Drawn, PositiveFloat, PositiveInt, Repeats, Section

PRETRAIN = "pretrain"  # the training of `shared` for transfer learning, by a section of its own
MethodName = Literal["protonet", "ridge", "maml", "anil", "reptile", "shared", "bank"]


class TrainSettings(Section):
    """What holds for the training of every method."""

    n_shot: PositiveInt
    n_query: PositiveInt
    within_domain: Annotated[float, Field(ge=0, le=1)]
    distortion: Annotated[float, Field(ge=0, le=1)]
    max_seconds: PositiveFloat | None
    validate_every: PositiveInt
    patience: PositiveInt
    select_on: str
    processes: Annotated[int, Field(ge=1, le=1024)]
    precision: Literal["float32", "tf32", "bf16"]
    deterministic: bool
    graph: Literal["auto", False]
    compile: Literal["auto"] | bool
    start: str | None = None  # of the defaults: a project made before has no such key
    start_steps: Annotated[float, Field(gt=0, le=1)] = 0.3

    @property
    def examples(self) -> int:
        """How many examples a training task has of each class, support and query together."""
        return self.n_shot + self.n_query


class MethodSettings(Section):
    """What every method has; each adds its own hyperparameters."""

    norm: Literal["batch", "group", "none"]
    n_way: Annotated[int, Field(ge=2)]
    tasks_per_step: Repeats
    steps: Annotated[int, Field(ge=0, le=1_000_000_000)]  # 0: it is not trained, as a time budget has no room for it
    learning_rate: PositiveFloat


class EmbeddingSettings(MethodSettings):
    """Methods whose head has a closed form."""

    take_turns: bool


class ProtonetSettings(EmbeddingSettings):
    """Prototypical networks."""

    temperature: Literal["fixed", "learned"]


class RidgeSettings(EmbeddingSettings):
    """Ridge regression on embeddings."""

    regularisation: PositiveFloat


class GradientSettings(MethodSettings):
    """Methods that adapt by gradient steps; `beta` is chosen on the validation episodes where it is "auto"."""

    inner_steps: Repeats
    inner_rate: PositiveFloat
    beta: Literal["auto"] | Annotated[float, Field(ge=0, le=2)]


class StartSettings(GradientSettings):
    """Methods that adapt to tasks while they train; `head` says where a task's head starts."""

    head: Literal["prototypes", "zero"] = "zero"  # of models and projects made before there was a choice


class TurnsSettings(StartSettings):
    """Those whose tasks may leave the network as it is."""

    take_turns: bool = False  # of models and projects made before there was a choice


class MamlSettings(TurnsSettings):
    """MAML and what MAML++ adds."""

    first_order: bool
    learned_rates: bool
    multi_step: bool
    recompute: bool


class AnilSettings(TurnsSettings):
    """ANIL."""

    first_order: bool


class ReptileSettings(StartSettings):
    """Reptile; `batch` in examples of an inner step."""

    batch: Drawn


class SharedSettings(GradientSettings):
    """A network trained jointly over all tasks."""

    section: ClassVar[str] = "shared"  # of params.yaml, which errors name
    heads: Literal["all", "domain"]


class PretrainSettings(SharedSettings):
    """Ordinary classification of the training classes, for transfer learning; `distortion` of the examples as in
    `train`."""

    section: ClassVar[str] = PRETRAIN
    steps: PositiveInt
    distortion: Annotated[float, Field(ge=0, le=1)]


class BankSettings(ProtonetSettings):
    """Several networks, and how a task chooses."""

    window: PositiveInt
    stride: PositiveInt
    route: Literal["pick", "mix"]
