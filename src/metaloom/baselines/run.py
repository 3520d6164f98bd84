"""Single-task learners answer fixed episodes, several at a time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from metaloom.baselines.catalogue import BASELINES
from metaloom.baselines.views import Views
from metaloom.system.device import keep_freed_memory
from metaloom.system.terminal import track
from metaloom.tasks import EpisodeTable

CHUNK = 10  # episodes a job of a fast learner
FAILURES = (ValueError, RuntimeError, ArithmeticError, np.linalg.LinAlgError)  # of a learner on a task, not of our code


class Request(NamedTuple):
    """One learner with one candidate of its settings, asked one set of episodes; `key` is the caller's."""

    key: Any
    learner: str
    choice: dict[str, Any]
    table: EpisodeTable


@dataclass(frozen=True)
class Answered:
    """What a learner said to a set of episodes.

    Args:
        scores: logits; NaN where it failed.
        failed: whether it did, for each episode.
        adapt_seconds: of one task, the median.
        predict_seconds: of one query, the median over tasks.
        size: bytes of what was learned for a task, the largest.
    """

    scores: Float[np.ndarray, "episode query n_way"]
    failed: Bool[np.ndarray, " episode"]
    adapt_seconds: float
    predict_seconds: float
    size: int


class _Answer(NamedTuple):
    scores: np.ndarray
    adapt_seconds: float
    predict_seconds: float
    size: int


def answer_all(views: Views, requests: Sequence[Request], description: str, jobs: int = -1) -> dict[Any, Answered]:
    """All requests answered, by key.

    Args:
        views: that hold all their episodes.
        requests: with different keys.
        description: for the progress bar.
        jobs: processes, each with one thread.
    """
    parts = [(index, part) for index, request in enumerate(requests) for part in _parts(request)]
    order = np.random.default_rng(0).permutation(len(parts))  # mixed, so that the time left is well guessed
    work = (delayed(_answers)(views, requests[parts[place][0]], parts[place][1]) for place in order)
    found: dict[int, list[_Answer]] = {}
    done = Parallel(n_jobs=jobs, return_as="generator")(work)
    for place, answers in zip(order, track(done, description, len(parts)), strict=True):
        found[int(place)] = answers
    if jobs != 1:
        get_reusable_executor().shutdown()  # idle, they would keep their memory
    by_request: dict[int, list[_Answer]] = {}
    for place, (index, _) in enumerate(parts):
        by_request.setdefault(index, []).extend(found.pop(place))
    return {request.key: _together(by_request.pop(index)) for index, request in enumerate(requests)}


def _parts(request: Request) -> list[range]:
    """Episodes of each job: one where a network is trained."""
    size = 1 if BASELINES[request.learner].fit is None else CHUNK
    total = len(request.table)
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def _together(answers: list[_Answer]) -> Answered:
    scores = np.stack([answer.scores for answer in answers])
    failed = np.logical_not(np.isfinite(scores).all(axis=(1, 2)))
    scores[failed] = np.nan
    seconds = np.array([(answer.adapt_seconds, answer.predict_seconds) for answer in answers])
    adapt, predict = np.median(seconds, axis=0)
    return Answered(scores, failed, float(adapt), float(predict), max(answer.size for answer in answers))


def _answers(views: Views, request: Request, episodes: range) -> list[_Answer]:
    torch.set_num_threads(1)
    keep_freed_memory()
    with warnings.catch_warnings():  # so few labels a class are what this is about
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        return [_answer(views, request, episode) for episode in episodes]


def _answer(views: Views, request: Request, episode: int) -> _Answer:
    baseline, table = BASELINES[request.learner], request.table
    support, query = views.at(table.support_rows[episode]), views.at(table.query_rows[episode])
    started = time.perf_counter()
    try:
        model = baseline.learn(request.learner, views, request.choice, support, table.labels, episode)
        adapted = time.perf_counter()
        scores = np.asarray(model(views.seen(baseline.view, query)), dtype=np.float32)
    except FAILURES:
        scores = np.full((len(query), table.n_way), np.nan, dtype=np.float32)
        return _Answer(scores, 0.0, 0.0, 0)
    return _Answer(scores, adapted - started, (time.perf_counter() - adapted) / len(query), model.size)
