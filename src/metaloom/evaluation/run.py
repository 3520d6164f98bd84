"""Every learner answers the same fixed episodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, UInt8
from joblib import Parallel, delayed
from torch import Tensor

from metaloom.baselines import SINGLE_TASK_LEARNERS
from metaloom.config import EvaluateSettings
from metaloom.device import keep_freed_memory
from metaloom.methods import Learner
from metaloom.methods.learner import Normalisation
from metaloom.methods.scoring import scores
from metaloom.networks import Network
from metaloom.progress import track
from metaloom.tasks import EpisodeTable

GALLERY = 4  # episodes a setting that the report shows in full


def meta_learner_scores(
    name: str,
    learner: Learner,
    images: UInt8[Tensor, "item height width channel"],
    tables: dict[str, EpisodeTable],
) -> pd.DataFrame:
    """One row an episode: learner, setting, episode, accuracy, nll (nats)."""
    parts = []
    for setting, table in track(tables.items(), f"evaluate {name}", len(tables)):
        parts.append(_rows(name, setting, learner.answer(images, table), table))
    return pd.concat(parts, ignore_index=True)


def single_task_scores(
    name: str,
    settings: EvaluateSettings,
    learner: Learner,
    images: UInt8[Tensor, "item height width channel"],
    tables: dict[str, EpisodeTable],
    jobs: int = -1,
) -> pd.DataFrame:
    """The same table for a single-task learner; it borrows a meta-learner's architecture, not its weights.

    Args:
        name: of the single-task learner.
        settings: which hold the number of episodes it answers (the first ones of each setting).
        learner: whose network and normalisation it uses.
        images: the whole data set, raw, on the CPU.
        tables: fixed episodes by setting.
        jobs: processes, each with one thread.
    """
    limit = getattr(settings, name).episodes
    network, normalisation = learner.method.network.one, learner.normalisation
    tables = {setting: table.first(limit) for setting, table in tables.items()}
    jobs_to_do = [(setting, episode) for setting, table in tables.items() for episode in range(len(table))]
    work = (
        delayed(_one_episode)(name, settings, network, normalisation, *_pixels(images, tables[s], e), e)
        for s, e in jobs_to_do
    )
    answers = Parallel(n_jobs=jobs, return_as="generator")(work)
    done = list(track(answers, f"evaluate {name}", len(jobs_to_do)))
    parts, start = [], 0
    for setting, table in tables.items():
        parts.append(_rows(name, setting, torch.from_numpy(np.stack(done[start : start + len(table)])), table))
        start += len(table)
    return pd.concat(parts, ignore_index=True)


def gallery(
    learner: Learner, images: UInt8[Tensor, "item height width channel"], tables: dict[str, EpisodeTable]
) -> pd.DataFrame:
    """The first episodes of each setting in full: setting, episode, role, way, row, predicted, probabilities."""
    return pd.DataFrame(
        row
        for setting, table in tables.items()
        for row in _gallery_rows(setting, table.first(GALLERY), learner.answer(images, table.first(GALLERY)))
    )


def _gallery_rows(setting: str, table: EpisodeTable, log_probabilities: Tensor) -> Iterator[dict[str, Any]]:
    for episode, answers in enumerate(log_probabilities.exp().tolist()):
        place = {"setting": setting, "episode": episode}
        for way, row in _by_way(table.support[episode]):
            yield place | {"role": "support", "way": way, "row": row, "predicted": -1, "probabilities": None}
        for answer, (way, row) in zip(answers, _by_way(table.query[episode]), strict=True):
            predicted = answer.index(max(answer))
            yield place | {
                "role": "query",
                "way": way,
                "row": row,
                "predicted": predicted,
                "probabilities": answer,
            }


def _by_way(rows: Int[np.ndarray, "way example"]) -> list[tuple[int, int]]:
    return [(way, row) for way, of_way in enumerate(rows.tolist()) for row in of_way]


def _rows(name: str, setting: str, log_probabilities: Tensor, table: EpisodeTable) -> pd.DataFrame:
    accuracy, nll = scores(log_probabilities, table)
    columns = {"episode": range(len(table)), "accuracy": accuracy.cpu().numpy(), "nll": nll.cpu().numpy()}
    return pd.DataFrame({"learner": name, "setting": setting} | columns)


def _pixels(images: Tensor, table: EpisodeTable, episode: int) -> tuple[np.ndarray, np.ndarray]:
    """Support (way, n_shot, height, width, channel) and queries, shaped alike."""
    return images[table.support[episode]].numpy(), images[table.query[episode]].numpy()


def _one_episode(
    name: str,
    settings: EvaluateSettings,
    network: Network,
    normalisation: Normalisation,
    support: np.ndarray,
    query: np.ndarray,
    seed: int,
) -> np.ndarray:
    torch.set_num_threads(1)
    keep_freed_memory()
    labels = torch.arange(support.shape[0]).repeat_interleave(support.shape[1])
    support_x, query_x = (normalisation(torch.from_numpy(each)).flatten(0, 1) for each in (support, query))
    return SINGLE_TASK_LEARNERS[name](getattr(settings, name), network, support_x, labels, query_x, seed)
