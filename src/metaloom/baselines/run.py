"""Baselines (single-task learners) answer fixed episodes, several at a time."""

from __future__ import annotations

import itertools
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
from metaloom.baselines.features import Features
from metaloom.baselines.heads import Fitted
from metaloom.system.device import keep_freed_memory
from metaloom.system.terminal import track
from metaloom.tasks import EpisodeTable

CHUNK = 10  # episodes per job of a fast baseline
# of a baseline on a task, not of our code
FAILURES = (ValueError, RuntimeError, ArithmeticError, np.linalg.LinAlgError)


class Request(NamedTuple):
    """One baseline with one candidate of its settings, asked one set of episodes.

    Args:
        key: the caller's.
        baseline: its name.
        choice: of its settings.
        table: the episodes.
        timed: whether one episode is learned on its own, as its user would, so that its time can be told.
    """

    key: Any
    baseline: str
    choice: dict[str, Any]
    table: EpisodeTable
    timed: bool = False


@dataclass(frozen=True)
class Answered:
    """What a baseline said to a set of episodes.

    Args:
        scores: logits; NaN where it failed.
        failed: whether it did, for each episode.
        adapt_seconds: of one task, the median of those that were learned on their own; where none was, a task's share
            of those that were learned together.
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
    alone: bool  # it was not learned together with others


def answer_all(
    features: Features, requests: Sequence[Request], description: str, jobs: int = -1
) -> dict[Any, Answered]:
    """All requests answered, by key.

    Args:
        features: that hold all their episodes.
        requests: with different keys.
        description: for the progress bar.
        jobs: processes, each with one thread.
    """
    parts = [(index, part) for index, request in enumerate(requests) for part in _parts(features, request)]
    order = _longest_first(requests, parts)
    work = (delayed(_answers)(features, requests[parts[place][0]], parts[place][1]) for place in order)
    done = Parallel(n_jobs=jobs, return_as="generator")(work)
    found: dict[int, list[_Answer]] = dict(zip(order, track(done, description, len(parts)), strict=True))
    if jobs != 1:
        get_reusable_executor().shutdown()  # idle, they would keep their memory
    by_request: dict[int, list[_Answer]] = {}
    for place, (index, _) in enumerate(parts):
        by_request.setdefault(index, []).extend(found.pop(place))
    return {request.key: _together(by_request.pop(index)) for index, request in enumerate(requests)}


def _parts(features: Features, request: Request) -> list[range]:
    """Episodes of each job: as many as are learned together, in jobs of equal length, or a fast baseline's few."""
    baseline, table = BASELINES[request.baseline], request.table
    size = baseline.together(request.baseline, features, request.choice, len(table.labels))
    first = 1 if request.timed and size > 1 else 0
    rest = len(table) - first
    jobs = -(-rest // (size if baseline.fit is None else CHUNK))
    ends = [first + rest * job // jobs for job in range(jobs + 1)] if jobs else []
    return [range(first)] * first + [range(*each) for each in itertools.pairwise(ends)]


def _longest_first(requests: Sequence[Request], parts: Sequence[tuple[int, range]]) -> list[int]:
    """Places of the parts: those of trained networks by their number of examples, so that no process has a long one
    left when the others are done, and then the others, mixed, so that the time left is well guessed."""

    def examples(place: int) -> int:
        request, episodes = requests[parts[place][0]], parts[place][1]
        return len(episodes) * len(request.table.labels) if BASELINES[request.baseline].fit is None else 0

    mixed = np.random.default_rng(0).permutation(len(parts)).tolist()
    return sorted(mixed, key=examples, reverse=True)


def _together(answers: list[_Answer]) -> Answered:
    scores = np.stack([answer.scores for answer in answers])
    failed = np.logical_not(np.isfinite(scores).all(axis=(1, 2)))
    scores[failed] = np.nan
    adapt = float(np.median([a.adapt_seconds for a in answers if a.alone] or [a.adapt_seconds for a in answers]))
    predict = float(np.median([answer.predict_seconds for answer in answers]))
    return Answered(scores, failed, adapt, predict, max(answer.size for answer in answers))


def _answers(features: Features, request: Request, episodes: range) -> list[_Answer]:
    torch.set_num_threads(1)
    keep_freed_memory()
    with warnings.catch_warnings():  # so few examples per class are what this is about
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        size = BASELINES[request.baseline].together(
            request.baseline, features, request.choice, len(request.table.labels)
        )
        starts = range(0, len(episodes), size)
        return [each for start in starts for each in _answer(features, request, episodes[start : start + size])]


def _answer(features: Features, request: Request, episodes: range) -> list[_Answer]:
    """Answers to episodes that are learned together; each is learned on its own where that fails: not all need fail."""
    baseline, table = BASELINES[request.baseline], request.table
    support = features.at(table.support_rows[episodes.start : episodes.stop])
    started = time.perf_counter()
    try:
        models = baseline.learn(request.baseline, features, request.choice, support, table.labels, episodes)
    except FAILURES:
        if len(episodes) > 1:
            return [each for one in episodes for each in _answer(features, request, range(one, one + 1))]
        return [_failure(table)]
    seconds, alone = (time.perf_counter() - started) / len(episodes), len(episodes) == 1
    return [
        _asked(features, request, episode, model, seconds, alone)
        for episode, model in zip(episodes, models, strict=True)
    ]


def _asked(features: Features, request: Request, episode: int, model: Fitted, adapted: float, alone: bool) -> _Answer:
    query = features.at(request.table.query_rows[episode])
    started = time.perf_counter()
    try:
        scores = np.asarray(model(features.get(BASELINES[request.baseline].features, query)), dtype=np.float32)
    except FAILURES:
        return _failure(request.table)
    return _Answer(scores, adapted, (time.perf_counter() - started) / len(query), model.size, alone)


def _failure(table: EpisodeTable) -> _Answer:
    scores = np.full((len(table.answers), table.n_way), np.nan, dtype=np.float32)
    return _Answer(scores, 0.0, 0.0, 0, alone=False)
