"""How figures move with labelled examples, ways and balance, and how many such examples a meta-learner saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metaloom.baselines import GROUPS
from metaloom.config import StudySettings
from metaloom.evaluation.figures import Answers, share_interval
from metaloom.evaluation.statistics import labels_needed
from metaloom.evaluation.tables import Everyone
from metaloom.learner.intervals import resamples
from metaloom.system.certainty import ENOUGH_EPISODES
from metaloom.tasks.studies import ALL, LABELS, UNEVEN, WAYS

SAVED = (1, 5)  # labelled examples per class of the meta-learner that the single-task learner's are counted for
POINT = ["accuracy", "low95", "high95", "episodes"]


def label_rows(everyone: Everyone, settings: StudySettings) -> pd.DataFrame:
    """kind, learner, n_shot, accuracy, low95, high95, episodes."""
    rows = [
        (scope, learner, shots, *_point([answers[f"{LABELS}/{scope}/{shots}"]], everyone.samples))
        for scope in settings.kinds
        for learner, answers in everyone.answers.items()
        for shots in sorted(settings.labels)
    ]
    return pd.DataFrame(rows, columns=["kind", "learner", "n_shot", *POINT])


def way_rows(everyone: Everyone, settings: StudySettings) -> pd.DataFrame:
    """learner, n_way, mean_ways, accuracy, low95, high95, episodes: one domain, one labelled example per class."""
    rows = []
    for learner, answers in everyone.answers.items():
        for ways in (*sorted(settings.ways), ALL) if settings.ways else ():
            of_domains = [each for name, each in answers.items() if name.startswith(f"{WAYS}/{ways}/")]
            mean = np.average([a.table.n_way for a in of_domains], weights=[len(a.table) for a in of_domains])
            rows.append((learner, str(ways), float(mean), *_point(of_domains, everyone.samples)))
    return pd.DataFrame(rows, columns=["learner", "n_way", "mean_ways", *POINT])


def balance_rows(everyone: Everyone, settings: StudySettings) -> pd.DataFrame:
    """learner, balance, shots, accuracy, low95, high95, episodes, fewest, most: examples spread evenly and not.

    `fewest` and `most`: accuracy on the questions about the class with the fewest labelled examples, and with the most.
    """
    rows = []
    for learner, answers in everyone.answers.items() if settings.uneven else ():
        scope, even = settings.kinds[0], sum(settings.uneven) // settings.n_way
        of = {"even": (answers[f"{LABELS}/{scope}/{even}"], [even] * settings.n_way)}
        of[UNEVEN] = answers[f"{UNEVEN}/{scope}"], settings.uneven
        for balance, (each, shots) in of.items():
            ends = (_on_way(each, settings.uneven.index(end(settings.uneven))) for end in (min, max))
            spread = " ".join(map(str, shots))
            rows.append((learner, balance, spread, *_point([each], everyone.samples), *ends))
    return pd.DataFrame(rows, columns=["learner", "balance", "shots", *POINT, "fewest", "most"])


def labels_saved(everyone: Everyone, settings: StudySettings) -> list[dict[str, Any]]:
    """For each scope of episodes and group of single-task learners: how many labelled examples per class the best needs
    to be as good as the champion with one, and with five.

    The best is the one that needs the fewest. Champion and rival answer the same episodes, so that they are drawn
    together for the interval; null where the rival has not got there with the most that there are. The ends
    of the interval are null too where the episodes are too few for one.
    """
    shots = sorted(settings.labels)
    return [record for scope in settings.kinds for record in _saved(everyone, scope, shots)]


def _saved(everyone: Everyone, scope: str, shots: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Records of `labels_saved` for one scope of episodes."""
    curves = {
        learner: np.stack([answers[f"{LABELS}/{scope}/{n}"].accuracy for n in shots])
        for learner, answers in everyone.answers.items()
    }
    for n_shot in sorted(set(SAVED) & set(shots)):
        own = curves[everyone.champion][shots.index(n_shot)]
        asked = {"kind": scope, "learner": everyone.champion, "n_shot": n_shot, "accuracy": _mean(own)}
        for group in GROUPS[:2]:
            found = {rival: _needed(own, curves[rival], shots, everyone.samples) for rival in everyone.of_group(group)}
            if found:
                rival = min(found, key=lambda name: (found[name][0], -_mean(curves[name][-1], nothing=0.0)))
                values = (None if not np.isfinite(value) else float(value) for value in found[rival])
                needs = dict(zip(("labels", "low95", "high95"), values, strict=True))
                yield asked | {"against": group, "rival": rival, **needs, "most": shots[-1]}


def _mean(accuracy: np.ndarray, nothing: float = float("nan")) -> float:
    """Over the episodes that were answered; `nothing` where none was."""
    answered = accuracy[np.isfinite(accuracy)]
    return float(answered.mean()) if len(answered) else nothing


def _needed(own: np.ndarray, curve: np.ndarray, shots: Sequence[int], samples: int) -> tuple[float, float, float]:
    """Labels that the rival needs, and their 95% interval; infinite beyond the most. From fewer than
    `ENOUGH_EPISODES` there is no interval (NaN): it would need Student's t, which what may be infinite has not."""
    episodes = curve.shape[1]
    whole = np.isfinite(curve).all(axis=0) & np.isfinite(own[:episodes])
    if not whole.any():
        return np.inf, np.nan, np.nan
    own, curve = own[:episodes][whole], curve[:, whole]
    whole_sample = np.full((1, len(own)), 1 / len(own))
    point = float(labels_needed(whole_sample @ own, shots, whole_sample @ curve.T)[0])
    if len(own) < ENOUGH_EPISODES:
        return point, np.nan, np.nan
    weights = resamples(len(own), samples)
    drawn = np.sort(labels_needed(weights @ own, shots, weights @ curve.T))
    low, high = drawn[int(0.025 * len(drawn))], drawn[int(np.ceil(0.975 * len(drawn))) - 1]
    return point, float(low), float(high)


def _point(answers: Sequence[Answers], samples: int) -> tuple[float, float, float, int]:
    accuracy = np.concatenate([each.accuracy for each in answers])
    accuracy = accuracy[np.isfinite(accuracy)]
    if not len(accuracy):
        return np.nan, np.nan, np.nan, 0
    mean = float(accuracy.mean())
    low, high = share_interval(resamples(len(accuracy), samples) @ accuracy, mean, len(accuracy))
    return mean, low, high, len(accuracy)


def _on_way(answers: Answers, way: int) -> float:
    kept = answers.kept
    return float(kept.right[:, kept.table.answers == way].mean()) if len(kept.table) else float("nan")
