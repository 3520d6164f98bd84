"""The settings of single-task learners: how many episodes each answers, and what is searched for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from metaloom.config.base import DOMAIN_SUFFIX, Drawn, PositiveFloat, Repeats, Section, SettingName, Share


class SingleTaskSettings(Section):
    """What every single-task learner has: how many test episodes it answers, the first ones: of each setting that
    `baselines.settings` names and its `_domain`, and elsewhere, of each other setting and each point of the studies."""

    episodes: Drawn
    elsewhere: Drawn

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

    steps: Annotated[int, Field(ge=4, le=100_000)]
    epochs: Annotated[float, Field(ge=0, le=100_000)]
    batch: Drawn
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

    trees: Repeats
    max_features: Annotated[list[Literal["sqrt"] | Share], Field(min_length=1)]


class BaselineSettings(Section):
    """Single-task learners, and how their settings are searched on validation episodes."""

    settings: Annotated[list[SettingName], Field(min_length=1)]
    episodes: Drawn
    scratch: ScratchSettings
    finetune_head: LinearSettings
    finetune_all: SteppedSettings
    logistic: LinearSettings
    neighbour: NeighbourSettings
    svm: LinearSettings
    forest: ForestSettings

    def asked(self, baseline: SingleTaskSettings, name: str) -> int:
        """How many of the test episodes of this name, of a setting or a point of a study, a baseline answers."""
        return baseline.episodes if name.removesuffix(DOMAIN_SUFFIX) in self.settings else baseline.elsewhere
