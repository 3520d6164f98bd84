"""What `evaluate` writes of the learners in each setting, from their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from metaloom.baselines import GROUPS
from metaloom.evaluation.answers import OfTables
from metaloom.evaluation.classes import difference_over_classes, over_classes
from metaloom.evaluation.figures import Reliability, by_domain, figures
from metaloom.evaluation.statistics import PairedDifference, compare, holm
from metaloom.system.escaping import cell, plotted

META = "meta"


@dataclass(frozen=True)
class Everyone:
    """All learners' answers.

    Args:
        answers: by learner and name of the episodes.
        groups: of each learner, in the order in which they are shown: "meta", "task", "transfer" or "embedding".
        champion: the meta-learner that validation chose.
        samples: of the bootstrap.
        class_of: the code of the class of each row of the data set.
    """

    answers: Mapping[str, OfTables]
    groups: Mapping[str, str]
    champion: str
    samples: int
    class_of: Int[np.ndarray, " item"]

    def of_group(self, group: str) -> list[str]:
        """Names of the learners of a group."""
        return [learner for learner, own in self.groups.items() if own == group]

    @property
    def meta(self) -> list[str]:
        """Names of the meta-learners."""
        return self.of_group(META)


def summarise(everyone: Everyone, settings: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """{learner: {setting: figures}}."""
    return {
        learner: {
            setting: figures(answers[setting], everyone.samples) | over_classes(answers[setting], everyone.class_of)
            for setting in settings
        }
        for learner, answers in everyone.answers.items()
    }


def episode_rows(everyone: Everyone, settings: Sequence[str]) -> pd.DataFrame:
    """One row per episode: learner, setting, episode, accuracy, nll, failed."""
    parts = []
    for learner, answers in everyone.answers.items():
        for setting in settings:
            each = answers[setting]
            columns = {"accuracy": each.accuracy, "nll": each.nll, "failed": each.failed}
            parts.append(
                pd.DataFrame({"learner": learner, "setting": setting, "episode": range(len(each.table)), **columns})
            )
    return pd.concat(parts, ignore_index=True)


def rivals(everyone: Everyone, settings: Sequence[str]) -> dict[str, dict[str, str]]:
    """{setting: {group: its best learner}}: the best on these very episodes, which is in its favour."""
    found: dict[str, dict[str, str]] = {}
    for setting in settings:
        found[setting] = {}
        for group in GROUPS[:2]:
            means = {
                name: float(np.nanmean(accuracy))
                for name in everyone.of_group(group)
                if np.isfinite(accuracy := everyone.answers[name][setting].accuracy).any()
            }
            if means:
                found[setting][group] = max(means, key=lambda name: means[name])
    return found


def differences(
    everyone: Everyone, settings: Sequence[str], best: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Every meta-learner against the best single-task learner of each kind, and the champion against everyone.

    The p-values of the former are corrected for their number (meta-learners × settings), for each kind by itself.
    """
    records = []
    for setting in settings:
        accuracies = {name: answers[setting].accuracy for name, answers in everyone.answers.items()}
        others = [each for each in everyone.answers if each not in (everyone.champion, *best[setting].values())]
        differences = (compare(everyone.champion, name, accuracies, everyone.samples) for name in others)
        records += [_record(everyone, difference, setting, None) for difference in differences]
    for group in GROUPS[:2]:
        found = [
            (setting, compare(name, best[setting][group], _accuracies(everyone, setting), everyone.samples))
            for setting in settings
            for name in everyone.meta
            if group in best[setting]
        ]
        corrected = holm([each.p for _, each in found])
        records += [_record(everyone, each, setting, p) for (setting, each), p in zip(found, corrected, strict=True)]
    return records


def _record(everyone: Everyone, found: PairedDifference, setting: str, p_holm: float | None) -> dict[str, Any]:
    """A row of differences, with half the width of its interval over classes."""
    one, other = (everyone.answers[name][setting] for name in (found.learner, found.rival))
    over = {"classes_ci95": difference_over_classes(one, other, everyone.class_of)}
    return found.record(setting, p_holm) | over


def _accuracies(everyone: Everyone, setting: str) -> dict[str, np.ndarray]:
    return {name: answers[setting].accuracy for name, answers in everyone.answers.items()}


def domain_rows(everyone: Everyone, settings: Sequence[str], domain_of: pd.Series) -> pd.DataFrame:
    """learner, setting, domain, accuracy, low95, high95, queries; `domain_of` each row of the data set.

    Domains are named as DVC's page of plots and a spreadsheet may show them. A learner that failed every episode of a
    setting has no rows there.
    """
    codes, names = pd.factorize(domain_of)
    parts = []
    for learner, answers in everyone.answers.items():
        for setting in settings:
            if len((kept := answers[setting].kept).table):
                rows = by_domain(kept, codes, everyone.samples)
                domain = [cell(plotted(names[code])) for code in rows.pop("code")]
                parts.append(rows.assign(learner=learner, setting=setting, domain=domain))
    order = ["learner", "setting", "domain", "accuracy", "low95", "high95", "queries"]
    return pd.concat(parts, ignore_index=True)[order]


def calibration_rows(everyone: Everyone, settings: Sequence[str], before: Mapping[str, OfTables]) -> pd.DataFrame:
    """learner, setting, temperature, bin, confidence, accuracy, share; `before`: meta-learners without temperature."""
    parts = []
    for temperature, of_learners in (("after", everyone.answers), ("before", before)):
        for learner, answers in of_learners.items():
            for setting in settings:
                if len((kept := answers[setting].kept).table):
                    rows = Reliability.of(kept).table()
                    parts.append(rows.assign(learner=learner, setting=setting, temperature=temperature))
    order = ["learner", "setting", "temperature", "bin", "confidence", "accuracy", "share"]
    return pd.concat(parts, ignore_index=True)[order]


def accuracy_rows(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """For `dvc plots`: one row per setting and learner."""
    return pd.DataFrame(
        {"setting": setting, "learner": learner, **found}
        for learner, by_setting in summary.items()
        for setting, found in by_setting.items()
    )
