"""Each learner's settings, chosen on validation episodes, never on those of the test."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaloom.baselines.catalogue import BASELINES
from metaloom.baselines.features import Features
from metaloom.baselines.run import Answered, Request, answer_all
from metaloom.config import BaselineSettings
from metaloom.learner.temperature import LabelledLogits, Temperature
from metaloom.tasks import EpisodeTable

WORST = {"accuracy": 0.0, "nll": sys.float_info.max}  # of a candidate that fails everywhere; JSON has no infinity


@dataclass(frozen=True)
class Choices:
    """What was chosen for one learner: for each setting of the search the shape of its tasks, the choice, and all that
    was tried."""

    searched: list[dict[str, Any]]
    temperature: Temperature

    def for_task(self, n_way: int, n_shot: float) -> dict[str, Any]:
        """What was chosen for the number of shots nearest to this task's, and then for the nearest number of ways."""

        def distance(searched: dict[str, Any]) -> tuple[float, float]:
            return abs(math.log(n_shot / searched["n_shot"])), abs(math.log(n_way / searched["n_way"]))

        return min(self.searched, key=distance)["chosen"]

    def saved(self) -> dict[str, Any]:
        """Plain values that `read` takes."""
        return {"searched": self.searched, "temperature": self.temperature.saved()}

    @classmethod
    def read(cls, saved: dict[str, Any]) -> Choices:
        """What `saved` gave."""
        return cls(saved["searched"], Temperature.read(saved["temperature"]))


def choose(
    features: Features, settings: BaselineSettings, tables: Mapping[str, EpisodeTable], jobs: int = -1
) -> dict[str, Choices]:
    """The best of every learner's candidates, by accuracy and then by NLL, and its temperature.

    Args:
        features: of the validation examples.
        settings: the candidates, and how many episodes they answer (no more than the learner answers elsewhere).
        tables: validation episodes by setting.
        jobs: processes.
    """
    requests = [
        Request((name, place, setting), name, candidate, tables[setting].first(searched_on(name, settings)))
        for name, baseline in BASELINES.items()
        for place, candidate in enumerate(baseline.candidates(settings))
        for setting in settings.settings
    ]
    answers = answer_all(features, requests, "search", jobs)
    return {name: _choice(name, settings, tables, answers) for name in BASELINES}


def searched_on(name: str, settings: BaselineSettings) -> int:
    """How many validation episodes each candidate of a learner answers."""
    return min(settings.episodes, BASELINES[name].settings(settings).elsewhere)


def _choice(
    name: str,
    settings: BaselineSettings,
    tables: Mapping[str, EpisodeTable],
    answers: Mapping[Any, Answered],
) -> Choices:
    candidates, searched, best = BASELINES[name].candidates(settings), [], []
    for setting in settings.settings:
        table = tables[setting]
        given = [answers[name, place, setting] for place in range(len(candidates))]
        found = [_figures(each, table) for each in given]
        first = max(range(len(candidates)), key=lambda place: (found[place]["accuracy"], -found[place]["nll"]))
        best.append(_labelled(given[first], table))
        searched.append(
            {
                "setting": setting,
                "n_way": table.n_way,
                "n_shot": table.support.shape[2],
                "episodes": searched_on(name, settings),
                "chosen": candidates[first],
                "tried": [candidate | figures for candidate, figures in zip(candidates, found, strict=True)],
            }
        )
    return Choices(searched, Temperature.fitted(best))


def _labelled(answered: Answered, table: EpisodeTable) -> LabelledLogits:
    scores = answered.scores[~answered.failed]
    labels = np.tile(table.answers, len(scores))
    return LabelledLogits(table.n_way, table.support.shape[2], scores.reshape(-1, table.n_way), labels)


def _figures(answered: Answered, table: EpisodeTable) -> dict[str, float]:
    """Accuracy and the NLL that the best temperature of its own leaves: scores as they come are not probabilities."""
    sure = _labelled(answered, table)
    if not len(sure.labels):
        return WORST
    temperature = Temperature.fitted([sure])(sure.n_way, sure.n_shot)
    z = sure.logits.astype(np.float64) / temperature
    nll = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), sure.labels]
    right = float((z.argmax(axis=1) == sure.labels).mean())
    return {"accuracy": right * len(sure.labels) / answered.scores[..., 0].size, "nll": float(nll.mean())}
