"""Every learner answers the same fixed episodes.

Where results list both kinds, here and in the files' column `learner`, a learner is a meta-learner or a baseline.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from scipy.special import log_softmax
from torch import Tensor

from metaloom.baselines import BASELINES, Choices, Features, answer_all
from metaloom.baselines.heads import FLOAT
from metaloom.baselines.run import Request
from metaloom.config import BaselineSettings
from metaloom.evaluation.figures import Answers
from metaloom.learner import Learner
from metaloom.learner.task import AdaptedTask
from metaloom.system.device import finish
from metaloom.tasks import EpisodeTable
from metaloom.tasks.studies import WAYS, is_of_study

TIMED = 3  # tasks that a meta-learner's times are the median of

OfTables = dict[str, Answers]


def meta_answers(
    learner: Learner,
    examples: Shaped[Tensor, "item ..."],
    tables: Mapping[str, EpisodeTable],
    answered: Callable[[int], None] = lambda tables: None,
) -> OfTables:
    """A meta-learner's answers to all episodes, by their name; `answered` hears of so many tables that are done."""
    together = [tables] if learner.method.frozen else [{name: table} for name, table in tables.items()]
    found: dict[str, Tensor] = {}
    for each in together:
        found |= learner.answers(examples, each)
        answered(len(each))
    return {name: Answers(found[name].cpu().numpy(), table) for name, table in tables.items()}


def untempered(answers: Answers, learner: Learner) -> Answers:
    """What the meta-learner had said without its temperature."""
    table = answers.table
    t = learner.temperature.of_task(table.labels, table.n_way)
    return Answers(log_softmax(answers.log_p * t, axis=2), table)


def single_task_answers(
    features: Features,
    choices: Mapping[str, Choices],
    settings: BaselineSettings,
    tables: Mapping[str, EpisodeTable],
    jobs: int = -1,
) -> tuple[dict[str, OfTables], dict[str, dict[str, dict[str, float]]]]:
    """The answers of every baseline, and their times and sizes; by baseline and name of the episodes.

    Args:
        features: of all examples in the episodes.
        choices: of the settings, made on validation episodes.
        settings: which hold the number of episodes that each baseline answers.
        tables: fixed episodes.
        jobs: processes, each with one thread.
    """
    requests = []
    for baseline, name, table in asked_alone(settings, tables):
        choice = choices[baseline].for_task(table.n_way, len(table.labels) / table.n_way)
        timed = not is_of_study(name)  # whose times are not shown
        requests.append(Request((baseline, name), baseline, choice, table, timed))
    answered = answer_all(features, requests, "evaluate", jobs)
    found: dict[str, OfTables] = {baseline: {} for baseline in BASELINES}
    speeds: dict[str, dict[str, dict[str, float]]] = {baseline: {} for baseline in BASELINES}
    for request in requests:
        baseline, name = request.key
        each, table = answered.pop(request.key), request.table
        t = choices[baseline].temperature.of_task(table.labels, table.n_way)
        found[baseline][name] = Answers(log_softmax(each.scores / t, axis=2), table)
        speeds[baseline][name] = _speed(
            each.adapt_seconds, each.predict_seconds, each.size + _network(baseline, features)
        )
    return found, speeds


def asked_alone(
    settings: BaselineSettings, tables: Mapping[str, EpisodeTable]
) -> Iterator[tuple[str, str, EpisodeTable]]:
    """Each baseline with the names of the episodes that it answers, and those episodes."""
    parts = Counter(map(_point, tables))
    for name, baseline in BASELINES.items():
        for asked, table in tables.items():
            limit = -(-settings.asked(baseline.settings(settings), asked) // parts[_point(asked)])
            yield name, asked, table.first(limit)


def _point(name: str) -> str:
    """A setting's point in its study: `ways/5` for `ways/5/Greek`, as these are asked by domain; others as they are."""
    return name.rpartition("/")[0] if name.startswith(f"{WAYS}/") else name


def _network(baseline: str, features: Features) -> int:
    """Bytes of the frozen network below a baseline's head."""
    return features.sizes.get(BASELINES[baseline].features, 0)


def meta_speed(learner: Learner, examples: Shaped[Tensor, "item ..."], table: EpisodeTable) -> dict[str, float]:
    """Times on one thread of the processor where that is the device, as for single-task learners, and the size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed = [_timed(learner, examples, table, episode) for episode in range(min(TIMED + 1, len(table)))]
    finally:
        torch.set_num_threads(threads)
    adapt, predict = np.median([times for times, _ in timed[1:] or timed], axis=0)
    return _speed(float(adapt), float(predict), _size(timed[0][1]))


def _timed(
    learner: Learner, examples: Tensor, table: EpisodeTable, episode: int
) -> tuple[tuple[float, float], AdaptedTask]:
    support, query = (examples[torch.as_tensor(rows[episode])] for rows in (table.support_rows, table.query_rows))
    finish(learner.device)
    started = time.perf_counter()
    task = learner.adapt(support, table.labels)
    finish(learner.device)
    adapted = time.perf_counter()
    task.predict_proba(query)
    return (adapted - started, (time.perf_counter() - adapted) / len(query)), task


def _size(task: AdaptedTask) -> int:
    model = task.model
    return FLOAT * sum(t.numel() for t in (*model.weights.values(), *model.statistics.values(), *model.head))


def _speed(adapt: float, predict: float, size: int) -> dict[str, Any]:
    return {"adapt_ms": 1000 * adapt, "predict_ms": 1000 * predict, "bytes": size}
