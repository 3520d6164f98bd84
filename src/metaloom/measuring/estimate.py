"""Seconds of each stage of a run, from what a few steps took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metaloom.baselines import BASELINES
from metaloom.baselines.choices import searched_on
from metaloom.config import PRETRAIN, Settings
from metaloom.evaluation.answers import TIMED, asked_alone
from metaloom.learner.estimate import FOLDS
from metaloom.measuring.rates import LEARNED, MethodRate, Rates
from metaloom.system.parallel import cores
from metaloom.tasks import EpisodeTable, load_episodes, load_studies
from metaloom.tasks.studies import ESTIMATES, is_of_study
from metaloom.training.selection import TEMPERED_ON

# Work that is not measured, in starts of a stage that runs networks: from the processor time of the stages of a run on
# few pictures (15 classes of five), where a start took 3.7 s.
FLOW = 3.0  # Prefect's server, and DVC between the stages
LIGHT = 0.4  # a stage without networks
WORKER = 1.4  # the processes of the single-task learners start together, and take over what they look at
STATISTICS = 0.25  # intervals and tests, of each setting
ESTIMATE = 6e-4  # of one task, from its embeddings
EXPORT = 3.5  # graphs are traced, written and verified


@dataclass(frozen=True)
class Asked:
    """The episodes of a run, by name: of validation, of the test with its studies, and tasks to estimate on."""

    validation: dict[str, EpisodeTable]
    test: dict[str, EpisodeTable]
    estimates: dict[str, EpisodeTable]

    @classmethod
    def read(cls, splits: Path, settings: Settings) -> Asked:
        """From the folder of the stage `split`."""
        studies = load_studies(splits, settings.studies)
        tasks = {name: table for name, table in studies.items() if name.startswith(ESTIMATES)}
        test = load_episodes(splits, "test", []) | {name: studies[name] for name in studies if name not in tasks}
        return cls(load_episodes(splits, "validation", []), test, tasks)


def seconds_by_stage(settings: Settings, rates: Rates, asked: Asked) -> dict[str, float]:
    """How long each stage is going to take, the flow around them first.

    Args:
        settings: with a value for everything.
        rates: measured with the network of these settings.
        asked: the episodes.
    """
    start, champion = rates.start, rates.trained[settings.trained[0]]
    training = {
        f"train@{name}" if name != PRETRAIN else name: start + _training(name, settings, rates.trained[name], asked)
        for name in (*settings.trained, PRETRAIN)
    }
    meta = sum(_meta(rates.trained[name], asked.test) for name in settings.trained)
    meta += champion.answering(*asked.estimates.values()) + _estimating(champion, asked.estimates)
    seen = _views(champion, rates.trained[PRETRAIN], asked.test)
    searched = {name: asked.validation[name] for name in settings.baselines.settings}
    tuning = _views(champion, rates.trained[PRETRAIN], searched) + _tuning(settings, rates, searched) / cores()
    return {
        "flow": FLOW * start,
        "plan, split": (1 + LIGHT) * start + rates.splitting,
        **training,
        "tune": (1 + WORKER) * start + tuning + _fits(settings) * rates.fit,
        "evaluate": (1 + WORKER + _statistics(asked)) * start
        + meta
        + seen
        + _alone(settings, rates, asked.test) / cores(),
        "export": (1 + EXPORT) * start,
        "report": LIGHT * start,
    }


def _training(name: str, settings: Settings, trained: MethodRate, asked: Asked) -> float:
    own, train = settings.method(name), settings.train
    validations = math.ceil(own.steps / train.validate_every)
    each = own.steps * trained.step + validations * trained.answering(asked.validation[train.select_on])
    seconds = trained.networks * min(each, train.max_seconds or math.inf)
    frozen = trained.learns.frozen
    tables = (table if frozen else table.first(TEMPERED_ON) for table in asked.validation.values())
    return seconds + trained.answering(*tables)  # for the temperature


def _meta(trained: MethodRate, tables: Mapping[str, EpisodeTable]) -> float:
    """The answers, and a few of them again on one thread, which are timed."""
    timed = [table.first(TIMED + 1) for name, table in tables.items() if not is_of_study(name)]
    return trained.answering(*tables.values()) + cores() * sum(map(trained.answering, timed))


def _views(champion: MethodRate, pretrained: MethodRate, tables: Mapping[str, EpisodeTable]) -> float:
    """The embeddings that single-task learners see: each example once, by both networks."""
    rows = {int(row) for table in tables.values() for row in table.rows}
    return len(rows) * (champion.passes + pretrained.passes)


def _estimating(champion: MethodRate, tables: Mapping[str, EpisodeTable]) -> float:
    """Cross-validation within support sets; a learner of frozen embeddings makes nothing of it."""
    if champion.learns.frozen:
        return 0.0
    learning = LEARNED * champion.learns.inner_steps
    each = sum(len(table) * len(table.labels) for table in tables.values())
    return champion.passes * each * (FOLDS - 1) * learning


def _statistics(asked: Asked) -> float:
    """Work of the evaluation's statistics, in units of the start of a stage."""
    fixed, tasks = sum(not is_of_study(name) for name in asked.test), sum(map(len, asked.estimates.values()))
    return STATISTICS * fixed + ESTIMATE * tasks


def _fits(settings: Settings) -> int:
    """Temperatures that `tune` fits: of each candidate in each setting, and of what was chosen for a learner."""
    candidates = sum(len(baseline.candidates(settings.baselines)) for baseline in BASELINES.values())
    return candidates * len(settings.baselines.settings) + len(BASELINES)


def _tuning(settings: Settings, rates: Rates, validation: Mapping[str, EpisodeTable]) -> float:
    total = 0.0
    for learner, baseline in BASELINES.items():
        candidates = baseline.candidates(settings.baselines)
        for name in settings.baselines.settings:
            table = validation[name].first(searched_on(learner, settings.baselines))
            total += len(candidates) * _answering_alone(learner, settings, rates, table)
    return total


def _alone(settings: Settings, rates: Rates, test: Mapping[str, EpisodeTable]) -> float:
    asked = asked_alone(settings.baselines, test)
    return sum(_answering_alone(learner, settings, rates, table) for learner, _, table in asked)


def _answering_alone(learner: str, settings: Settings, rates: Rates, table: EpisodeTable) -> float:
    """Seconds of one core."""
    rate, steps, labelled = rates.alone[learner], 1, len(table.labels)
    if BASELINES[learner].fit is None:
        own = BASELINES[learner].candidates(settings.baselines)[0]
        steps = max(own["steps"], math.ceil(own["epochs"] * labelled / own["batch"]))
    return len(table) * (steps * rate.task(labelled) + len(table.answers) * rate.query)
