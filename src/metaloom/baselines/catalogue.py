"""All single-task learners: what each sees, how it fits, and the candidates among its settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from metaloom.baselines import heads
from metaloom.baselines.heads import Fitted
from metaloom.baselines.stepped import fitted
from metaloom.baselines.views import Views
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
        view: of the examples, by name; "encoded" is for a network.
        fit: on a view's rows; None for a network that trains from its start.
    """

    group: Group
    section: str
    view: str
    fit: Fit | None = None

    def settings(self, baselines: BaselineSettings) -> SingleTaskSettings:
        return getattr(baselines, self.section)

    def candidates(self, baselines: BaselineSettings) -> list[dict[str, Any]]:
        """Every combination of the settings that are lists; the others as they are."""
        options = self.settings(baselines).model_dump(exclude={"episodes"})
        lists = [value if isinstance(value, list) else [value] for value in options.values()]
        return [dict(zip(options, values, strict=True)) for values in itertools.product(*lists)]

    def learn(
        self, name: str, views: Views, choice: dict[str, Any], support: np.ndarray, labels: np.ndarray, seed: int
    ) -> Fitted:
        """The model of one task; `support` are places in the views."""
        x = views.seen(self.view, support)
        if self.fit is None:
            return fitted(views.starts[name], choice, torch.as_tensor(x), torch.as_tensor(labels), seed)
        model, length = self.fit, np.sqrt(np.square(x, dtype=np.float64).sum(axis=1).mean()).astype(x.dtype)
        of_unit_length = model(choice, x / length, labels, seed)
        return Fitted(lambda queries: of_unit_length(queries / length), of_unit_length.size)


def _on(view: str, group: Group, suffix: str) -> dict[str, Baseline]:
    fits = {"logistic": heads.logistic, "neighbour": heads.neighbour, "svm": heads.svm, "forest": heads.forest}
    return {name + suffix: Baseline(group, name, view, fit) for name, fit in fits.items()}


BASELINES: dict[str, Baseline] = {
    "scratch": Baseline("task", "scratch", "encoded"),
    **_on("pixels", "task", ""),
    "finetune_head": Baseline("transfer", "finetune_head", "pretrained", heads.logistic),
    "finetune_all": Baseline("transfer", "finetune_all", "encoded"),
    **_on("embedding", "embedding", "_embedded"),
}
