"""All single-task learners: which features each takes, how it fits, and the candidates among its settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int

from metaloom.baselines import heads
from metaloom.baselines.features import Features
from metaloom.baselines.heads import Fitted
from metaloom.baselines.stepped import fitted, together
from metaloom.config import BaselineSettings, SingleTaskSettings

Group = Literal["task", "transfer", "embedding"]
GROUPS: tuple[Group, ...] = ("task", "transfer", "embedding")
Fit = Callable[[dict[str, Any], np.ndarray, np.ndarray, int], Fitted]


@dataclass(frozen=True)
class Baseline:
    """One single-task learner.

    Args:
        group: where its knowledge comes from.
        section: of `baselines` in params.yaml that has its settings.
        features: by name, of `Features.get`; "encoded" is for a network.
        fit: on their rows; None for a network that trains from its start.
    """

    group: Group
    section: str
    features: str
    fit: Fit | None = None

    def settings(self, baselines: BaselineSettings) -> SingleTaskSettings:
        """Its section of params."""
        return getattr(baselines, self.section)

    def candidates(self, baselines: BaselineSettings) -> list[dict[str, Any]]:
        """Every combination of the settings that are lists; the others as they are."""
        options = self.settings(baselines).model_dump(exclude={"episodes", "elsewhere"})
        lists = [value if isinstance(value, list) else [value] for value in options.values()]
        return [dict(zip(options, values, strict=True)) for values in itertools.product(*lists)]

    def together(self, name: str, features: Features, choice: dict[str, Any], examples: int) -> int:
        """How many tasks of so many labelled examples are worth learning together, and fit the memory."""
        return 1 if self.fit is not None else together(features.starts[name], choice, examples)

    def learn(
        self,
        name: str,
        features: Features,
        choice: dict[str, Any],
        support: Int[np.ndarray, "task support"],
        labels: Int[np.ndarray, " support"],
        seeds: Sequence[int],
    ) -> list[Fitted]:
        """The model of each task; `support` are places in the features, `labels` the same in every task."""
        x = features.get(self.features, support.ravel())
        x = x.reshape(*support.shape, *x.shape[1:])
        if self.fit is None:
            return fitted(features.starts[name], choice, torch.as_tensor(x), torch.as_tensor(labels), seeds)
        return [_of_unit_length(self.fit, choice, own, labels, seed) for own, seed in zip(x, seeds, strict=True)]


def _of_unit_length(fit: Fit, choice: dict[str, Any], x: np.ndarray, labels: np.ndarray, seed: int) -> Fitted:
    """A model of rows that are brought to unit mean square length, as its settings expect."""
    length = np.sqrt(np.square(x, dtype=np.float64).sum(axis=1).mean()).astype(x.dtype)
    model = fit(choice, x / length, labels, seed)
    return Fitted(lambda queries: model(queries / length), model.size)


def _on(features: str, group: Group, suffix: str) -> dict[str, Baseline]:
    fits = {"logistic": heads.logistic, "neighbour": heads.neighbour, "svm": heads.svm, "forest": heads.forest}
    return {name + suffix: Baseline(group, name, features, fit) for name, fit in fits.items()}


BASELINES: dict[str, Baseline] = {
    "scratch": Baseline("task", "scratch", "encoded"),
    **_on("flat", "task", ""),
    "finetune_head": Baseline("transfer", "finetune_head", "pretrained", heads.logistic),
    "finetune_all": Baseline("transfer", "finetune_all", "encoded"),
    **_on("embedding", "embedding", "_embedded"),
}
