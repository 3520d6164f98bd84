"""The settings as one frozen model: nothing here has a default, as params.yaml is the only home of a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field, FiniteFloat, model_validator

from metaloom.config.base import DOMAIN_SUFFIX, Domains, Drawn, PositiveFloat, PositiveInt, Section, SettingName
from metaloom.config.baselines import BaselineSettings
from metaloom.config.methods import (
    PRETRAIN,
    AnilSettings,
    BankSettings,
    MamlSettings,
    MethodName,
    MethodSettings,
    PretrainSettings,
    ProtonetSettings,
    ReptileSettings,
    RidgeSettings,
    SharedSettings,
    TrainSettings,
)
from metaloom.config.retraining import RetrainSettings

KindName = Literal["pictures", "vectors", "text"]
NetworkName = Literal["conv4", "resnet12", "mlp", "gru", "linear", "identity", "whiten", "matrix"]
NO_ENCODER = "no_encoder"  # the network that suits the examples themselves, without the encoder that sees them too
ContenderName = Literal["conv4", "resnet12", "mlp", "gru", "linear", "identity", "whiten", "matrix", "no_encoder"]


class PicturesSettings(Section):
    """Settings of the kind `pictures`."""

    image_size: Annotated[int, Field(ge=16, le=256)]
    channels: Literal["auto", 1, 3]
    rotations: bool
    mirror: bool
    test_shift: Annotated[int, Field(ge=0, le=8)]
    fit: Literal["pad", "crop", "stretch"]


class VectorsSettings(Section):
    """Settings of the kind `vectors`."""

    scaling: Literal["standard", "none"]
    label: str | None
    domain: str | None


class TextSettings(Section):
    """Settings of the kind `text`."""

    features: Annotated[int, Field(ge=16, le=65536)]
    length: Annotated[int, Field(ge=16, le=100_000)]
    text: str | None
    label: str | None
    domain: str | None


class EncoderSettings(Section):
    """A frozen encoder, and what it takes; None as far as its file says so."""

    file: str | None
    size: Annotated[int, Field(ge=8, le=1024)] | None
    layout: Literal["NCHW", "NHWC"] | None
    mean: Annotated[list[FiniteFloat], Field(min_length=1)]
    deviation: Annotated[list[PositiveFloat], Field(min_length=1)]
    output: str | None
    tokenizer: str | None
    tokens: Annotated[int, Field(ge=2, le=8192)] | None
    pooling: Literal["mean", "first"] | None


class PrepareSettings(Section):
    """What counts as usable data; `min_examples` as `least_examples` says where it is "auto"."""

    min_examples: Literal["auto"] | Annotated[int, Field(ge=2)]
    max_bad_share: Annotated[float, Field(ge=0, le=1)]


class SplitSettings(Section):
    """Which domains, or classes, each split has."""

    by: Literal["auto", "domain", "class"]
    train: Domains
    validation: Domains
    test: Domains
    reassign: bool


class EpisodeSettings(Section):
    """The fixed episodes that every learner answers."""

    settings: Annotated[list[SettingName], Field(min_length=1)]
    within_domain: bool
    n_query: PositiveInt
    validation: Drawn
    test: Drawn

    @property
    def names(self) -> list[str]:
        """What episodes are drawn for: each setting, and again with the suffix where its classes are of one domain."""
        names = list(dict.fromkeys(self.settings))
        return names + [name + DOMAIN_SUFFIX for name in names] if self.within_domain else names


class NetworkSettings(Section):
    """The shared network."""

    name: NetworkName
    width: Annotated[int, Field(ge=1, le=4096)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class EstimateSettings(Section):
    """How far estimates from a support set alone lie from the truth."""

    tasks: Drawn
    n_shot: Annotated[int, Field(ge=2)]


class StudySettings(Section):
    """How figures move with labelled examples, ways and balance; on test episodes of their own."""

    kinds: Annotated[list[Literal["any", "domain"]], Field(min_length=1)]
    episodes: Drawn
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


class EvaluateSettings(Section):
    """How intervals and tests are computed."""

    bootstrap: Annotated[int, Field(ge=100, le=1_000_000)]


class ExportSettings(Section):
    """The deployment task, and what its bundle holds."""

    domain: str
    n_shot: PositiveInt
    opset: Annotated[int, Field(ge=18, le=23)]
    ir_version: Annotated[int, Field(ge=8, le=11)]
    max_ways: Annotated[int, Field(ge=2, le=1000)]
    page: Literal["auto"] | bool
    variants: list[Literal["fp16", "int8", "plain"]]
    max_loss: Annotated[float, Field(ge=0, le=1)]
    key: str | None
    data_licence: str | None

    @property
    def measured(self) -> list[str]:
        """The variants whose answers are others than those of model.onnx: what they cost is measured."""
        return [name for name in self.variants if name != "plain"]


Guard = Literal["hold", "warn", "off"]


class GuardSettings(Section):
    """What each guard of a judgement does: keep a version from its stage, say so, or nothing."""

    domains: Guard
    worst_domain: Guard
    forgetting: Guard
    worst_tenth: Guard
    calibration: Guard
    novelty: Guard
    latency: Guard
    size: Guard


class JudgeSettings(Section):
    """When a new version takes the place of the present one; `margin` is a share of 1, `alpha` of a year."""

    alpha: Annotated[float, Field(gt=0, le=0.5)]
    margin: Annotated[float, Field(gt=0, le=0.5)]
    max_episodes: Drawn
    max_minutes: PositiveFloat
    guards: GuardSettings


Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LimitSettings(Section):
    """After which a run gives up what hangs; 0: never."""

    stage_minutes: Limit
    stall_minutes: Limit
    remote_seconds: Limit


class Settings(Section):
    """Everything in params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    device: Literal["auto", "cpu", "cuda", "mps"]
    engine: Literal["auto", "torch", "numba"]
    methods: Annotated[list[MethodName], Field(min_length=1)]
    kind: KindName
    pictures: PicturesSettings
    vectors: VectorsSettings
    text: TextSettings
    encoder: EncoderSettings
    prepare: PrepareSettings
    split: SplitSettings
    episodes: EpisodeSettings
    studies: StudySettings
    network: NetworkSettings
    contenders: list[ContenderName]
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
    judge: JudgeSettings
    limits: LimitSettings
    retrain: RetrainSettings

    @model_validator(mode="after")
    def _choose_on_drawn_settings(self) -> Settings:
        for _, message in not_drawn(self):
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _train_something(self) -> Settings:
        if not self.trained:
            raise ValueError("methods has none that is trained: give one of them more than 0 steps")
        return self

    @property
    def trained(self) -> list[MethodName]:
        """The methods that are trained: all of `methods` but those that a time budget leaves out."""
        return [name for name in self.methods if self.method(name).steps]

    def method(self, name: str) -> MethodSettings:
        """The settings of a method, or of `pretrain`.

        Args:
            name: of the method, as in `methods`.
        """
        return getattr(self, name)


def not_drawn(settings: Settings) -> Iterator[tuple[str, str]]:
    """Keys that name a few-shot setting for which no episodes are drawn, each with what is wrong."""
    select_on, episodes = settings.train.select_on, settings.episodes
    if select_on not in episodes.names:
        known = ", ".join(episodes.names)
        yield "train.select_on", f"train.select_on is {select_on}, but episodes has only {known}"
    if lacking := [name for name in settings.baselines.settings if name not in episodes.settings]:
        known = ", ".join(episodes.settings)
        yield "baselines.settings", f"baselines.settings has {lacking[0]}, but episodes.settings has only {known}"


METHODS: tuple[str, ...] = get_args(MethodName)
METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    name: Settings.model_fields[name].annotation
    for name in (*METHODS, PRETRAIN)  # type: ignore[misc]
}
