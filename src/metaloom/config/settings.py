"""The settings as one frozen model: nothing here has a default, as params.yaml is the only home of a value."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SPLITS = ("train", "validation", "test")
DOMAIN_SUFFIX = "_domain"  # marks a setting whose episodes stay within one domain
PRETRAIN = "pretrain"  # the training of `shared` for transfer learning, by a section of its own
MethodName = Literal["protonet", "ridge", "maml", "anil", "reptile", "shared", "bank"]
KindName = Literal["pictures", "vectors"]

Share = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Domains = Literal["rest"] | Share | list[str]


class Setting(BaseModel):
    """One few-shot setting, written `5w1s`: five ways, one shot."""

    model_config = ConfigDict(frozen=True)
    n_way: int
    n_shot: int

    @classmethod
    def parse(cls, name: str) -> Setting:
        """From its name; raises ValueError where that is none."""
        match = re.fullmatch(r"([1-9]\d*)w([1-9]\d*)s", name)
        if not match or int(match[1]) < 2:
            raise ValueError(f"{name!r} is no few-shot setting; write ways (2 or more) and shots like 5w1s")
        return cls(n_way=int(match[1]), n_shot=int(match[2]))


def _checked_setting(name: str) -> str:
    Setting.parse(name)
    return name


SettingName = Annotated[str, AfterValidator(_checked_setting)]


class Section(BaseModel):
    """One section of params.yaml: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PicturesSettings(Section):
    """Of the kind `pictures`."""

    image_size: Annotated[int, Field(ge=16, le=256)]
    channels: Literal[1, 3]
    rotations: bool
    mirror: bool
    test_shift: Annotated[int, Field(ge=0, le=8)]


class VectorsSettings(Section):
    """Of the kind `vectors`."""

    scaling: Literal["standard", "none"]


class PrepareSettings(Section):
    """What counts as usable data."""

    min_examples: Annotated[int, Field(ge=2)]
    max_bad_share: Annotated[float, Field(ge=0, le=1)]


class SplitSettings(Section):
    """Which domains each split has."""

    train: Domains
    validation: Domains
    test: Domains


class EpisodeSettings(Section):
    """The fixed episodes that every learner answers."""

    settings: Annotated[list[SettingName], Field(min_length=1)]
    within_domain: bool
    n_query: PositiveInt
    validation: PositiveInt
    test: PositiveInt

    @property
    def names(self) -> list[str]:
        """What episodes are drawn for: each setting, and again with the suffix where its classes are of one domain."""
        names = list(dict.fromkeys(self.settings))
        return names + [name + DOMAIN_SUFFIX for name in names] if self.within_domain else names


class NetworkSettings(Section):
    """The shared network."""

    name: Literal["conv4", "resnet12", "mlp", "gru"]
    width: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)]


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
    processes: PositiveInt
    precision: Literal["float32", "bf16"]
    compile: Literal["auto"] | bool

    @property
    def examples(self) -> int:
        """Of each class of a training task."""
        return self.n_shot + self.n_query


class MethodSettings(Section):
    """What every method has; each adds its own hyperparameters."""

    norm: Literal["batch", "group", "none"]
    n_way: Annotated[int, Field(ge=2)]
    tasks_per_step: PositiveInt
    steps: PositiveInt
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

    inner_steps: PositiveInt
    inner_rate: PositiveFloat
    beta: Literal["auto"] | Annotated[float, Field(ge=0, le=2)]


class MamlSettings(GradientSettings):
    """MAML and what MAML++ adds."""

    first_order: bool
    learned_rates: bool
    multi_step: bool
    recompute: bool


class AnilSettings(GradientSettings):
    """ANIL."""

    first_order: bool


class ReptileSettings(GradientSettings):
    """Reptile; `batch` in examples of an inner step."""

    batch: PositiveInt


class SharedSettings(GradientSettings):
    """A network trained jointly over all tasks."""

    section: ClassVar[str] = "shared"  # of params.yaml, which errors name
    heads: Literal["all", "domain"]


class PretrainSettings(SharedSettings):
    """Ordinary classification of the training classes, for transfer learning; `distortion` of the images as in
    `train`."""

    section: ClassVar[str] = PRETRAIN
    distortion: Annotated[float, Field(ge=0, le=1)]


class BankSettings(ProtonetSettings):
    """Several networks, and how a task chooses."""

    window: PositiveInt
    stride: PositiveInt
    route: Literal["pick", "mix"]


class EstimateSettings(Section):
    """How far estimates from a support set alone lie from the truth."""

    tasks: PositiveInt
    n_shot: Annotated[int, Field(ge=2)]


class StudySettings(Section):
    """How figures move with labels, ways and balance; on test episodes of their own."""

    kinds: Annotated[list[Literal["any", "domain"]], Field(min_length=1)]
    episodes: PositiveInt
    n_way: Annotated[int, Field(ge=2)]
    labels: Annotated[list[PositiveInt], Field(min_length=1)]
    uneven: list[PositiveInt]
    ways: list[Annotated[int, Field(ge=2)]]
    estimates: EstimateSettings

    @model_validator(mode="after")
    def _uneven_beside_even(self) -> StudySettings:
        if not self.uneven:
            return self
        even, rest = divmod(sum(self.uneven), self.n_way)
        if len(self.uneven) != self.n_way or rest or even not in self.labels or max(self.uneven) > max(self.labels):
            raise ValueError(
                f"uneven is {self.uneven}: write a number for each of the {self.n_way} ways (n_way), none above the "
                f"largest of labels, with a mean that is one of labels ({self.labels}); or leave it empty"
            )
        return self


class SingleTaskSettings(Section):
    """What every single-task learner has: how many test episodes it answers, the first ones: of each setting that
    `baselines.settings` names and its `_domain`, and elsewhere, of each other setting and each point of the studies."""

    episodes: PositiveInt
    elsewhere: PositiveInt

    @model_validator(mode="after")
    def _no_more_elsewhere(self) -> SingleTaskSettings:
        if self.elsewhere > self.episodes:
            raise ValueError(
                f"elsewhere is {self.elsewhere}, but episodes only {self.episodes}: raise episodes, or lower elsewhere "
                "(episodes counts where intervals are wanted most)"
            )
        return self


class SteppedSettings(SingleTaskSettings):
    """Learners that train a network on the support set; lists are searched."""

    steps: Annotated[int, Field(ge=4)]
    epochs: Annotated[float, Field(ge=0)]
    batch: PositiveInt
    learning_rate: Annotated[list[PositiveFloat], Field(min_length=1)]
    distortion: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]


class ScratchSettings(SteppedSettings):
    """The same network from random weights."""

    norm: Annotated[list[Literal["batch", "group", "none"]], Field(min_length=1)]


class LinearSettings(SingleTaskSettings):
    """A linear head, by its regularisation."""

    C: Annotated[list[PositiveFloat], Field(min_length=1)]


class NeighbourSettings(SingleTaskSettings):
    """The nearest example's class, by its metric."""

    metric: Annotated[list[Literal["euclidean", "cosine"]], Field(min_length=1)]


class ForestSettings(SingleTaskSettings):
    """A random forest."""

    trees: PositiveInt
    max_features: Annotated[list[Literal["sqrt"] | Share], Field(min_length=1)]


class BaselineSettings(Section):
    """Single-task learners, and how their settings are searched on validation episodes."""

    settings: Annotated[list[SettingName], Field(min_length=1)]
    episodes: PositiveInt
    scratch: ScratchSettings
    finetune_head: LinearSettings
    finetune_all: SteppedSettings
    logistic: LinearSettings
    neighbour: NeighbourSettings
    svm: LinearSettings
    forest: ForestSettings

    def asked(self, learner: SingleTaskSettings, name: str) -> int:
        """How many of the test episodes of this name, of a setting or a point of a study, a learner answers."""
        return learner.episodes if name.removesuffix(DOMAIN_SUFFIX) in self.settings else learner.elsewhere


class EvaluateSettings(Section):
    """How intervals and tests are computed."""

    bootstrap: Annotated[int, Field(ge=100)]


class ExportSettings(Section):
    """The deployment task, and what its bundle holds."""

    domain: str
    n_shot: PositiveInt
    opset: Annotated[int, Field(ge=18, le=23)]
    ir_version: Annotated[int, Field(ge=8, le=11)]
    max_ways: Annotated[int, Field(ge=2, le=1000)]
    page: Literal["auto"] | bool
    variants: list[Literal["fp16", "int8"]]
    max_loss: Annotated[float, Field(ge=0, le=1)]
    key: str | None
    data_licence: str | None


class Settings(Section):
    """Everything in params.yaml."""

    seed: Annotated[int, Field(ge=0)]
    device: Literal["auto", "cpu", "cuda", "mps"]
    methods: Annotated[list[MethodName], Field(min_length=1)]
    kind: KindName
    pictures: PicturesSettings
    vectors: VectorsSettings
    prepare: PrepareSettings
    split: SplitSettings
    episodes: EpisodeSettings
    studies: StudySettings
    network: NetworkSettings
    train: TrainSettings
    protonet: ProtonetSettings
    ridge: RidgeSettings
    maml: MamlSettings
    anil: AnilSettings
    reptile: ReptileSettings
    shared: SharedSettings
    bank: BankSettings
    pretrain: PretrainSettings
    baselines: BaselineSettings
    evaluate: EvaluateSettings
    export: ExportSettings

    @model_validator(mode="after")
    def _select_on_a_drawn_setting(self) -> Settings:
        if self.train.select_on not in self.episodes.names:
            known = ", ".join(self.episodes.names)
            raise ValueError(f"train.select_on is {self.train.select_on}, but episodes has only {known}")
        return self

    @model_validator(mode="after")
    def _search_on_drawn_settings(self) -> Settings:
        for name in self.baselines.settings:
            if name not in self.episodes.settings:
                known = ", ".join(self.episodes.settings)
                raise ValueError(f"baselines.settings has {name}, but episodes.settings has only {known}")
        return self

    def method(self, name: str) -> MethodSettings:
        """The settings of a method, or of `pretrain`."""
        return getattr(self, name)


METHODS: tuple[str, ...] = get_args(MethodName)
METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    name: Settings.model_fields[name].annotation
    for name in (*METHODS, PRETRAIN)  # type: ignore[misc]
}
