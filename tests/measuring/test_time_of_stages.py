"""Seconds of each stage, from rates that are made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from trainers import images_of_classes

from metaloom.baselines import BASELINES
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.measuring.estimate import ESTIMATE, STATISTICS, Asked, seconds_by_stage
from metaloom.measuring.rates import Learns, MethodRate, Rates, SingleTaskRate
from metaloom.system.parallel import cores
from metaloom.tasks import EpisodeTable

START = 10.0
METHODS = ("protonet", "maml", "pretrain")


def table(shots: int, first: int = 0) -> EpisodeTable:
    """Two episodes of the same three classes, with two questions about each."""
    rows = (first + np.arange(3 * (shots + 2))).reshape(1, 3, -1).repeat(2, axis=0)
    return EpisodeTable(rows[:, :, :shots], rows[:, :, shots:])


ASKED = Asked(
    validation={"3w1s": table(1), "3w2s": table(2, first=9)},
    test={"3w1s": table(1), "3w2s": table(2, first=9), "labels/any/1": table(1)},
    estimates={},
)


@pytest.fixture(scope="module")
def estimate(tiny_settings):
    """`estimate(steps={}, passes={}, alone={})`: seconds beyond those of a run in which only starts take time."""
    encoding = PictureEncoding.of(images_of_classes())
    learners = {name: Learner.create(name, tiny_settings, encoding) for name in METHODS}
    assert all(learner.method.frozen for learner in learners.values())

    def found(settings=tiny_settings, *, networks=1, splitting=0.0, fit=0.0, asked=ASKED, **rates):
        def of(kind: str, name: str) -> float:
            return rates.get(kind, {}).get(name, 0.0)

        trained = {
            name: MethodRate(Learns.of(learner), (1, 28, 28), networks, of("steps", name), of("passes", name))
            for name, learner in learners.items()
        }
        alone = {name: SingleTaskRate({3: of("alone", name)}, 0.0) for name in BASELINES}
        return seconds_by_stage(settings, Rates(START, splitting, fit, trained, alone, 0), asked)

    idle = found()

    def beyond(*settings, **rates) -> dict[str, float]:
        more = {stage: round(each - idle[stage], 6) for stage, each in found(*settings, **rates).items()}
        return {stage: each for stage, each in more.items() if each}

    return beyond


def changed(settings, **train):
    return settings.model_copy(update={"train": settings.train.model_copy(update=train)})


def test_the_stage_split_draws_episodes(estimate):
    assert estimate(splitting=1.0) == {"plan, split": 1.0}


def test_training_takes_its_steps(estimate, tiny_settings):
    assert estimate(steps={"protonet": 1.0, "maml": 2.0}) == {"train@protonet": 30.0, "train@maml": 40.0}
    assert estimate(steps={"protonet": 1.0}, networks=3) == {"train@protonet": 90.0}
    assert estimate(changed(tiny_settings, max_seconds=5.0), steps={"protonet": 1.0}) == {"train@protonet": 5.0}


def test_validations_embed_each_example_once(estimate, tiny_settings):
    """After every tenth of 30 steps nine examples each; and those of all validation episodes for the temperature."""
    assert estimate(passes={"maml": 1.0})["train@maml"] == 2 * 9 + 21
    assert estimate(changed(tiny_settings, validate_every=100), passes={"maml": 1.0})["train@maml"] == 9 + 21


def test_the_evaluation_answers_everything_and_times_the_settings_on_one_thread(estimate):
    """21 examples in all; the settings' 9 and 12 again on one thread. Single-task learners see those of champion and
    pre-trained network."""
    assert estimate(passes={"maml": 1.0})["evaluate"] == 21 + cores() * 21
    assert estimate(passes={"protonet": 1.0}) == {
        "train@protonet": 3 * 9 + 21,
        "tune": 21,
        "evaluate": 42 + cores() * 21,
    }
    assert estimate(passes={"pretrain": 1.0})["evaluate"] == 21


def test_the_search_fits_a_temperature_to_each_candidate(estimate, tiny_settings):
    """In both settings, and one to what was chosen for each learner."""
    candidates = sum(len(baseline.candidates(tiny_settings.baselines)) for baseline in BASELINES.values())
    assert estimate(fit=1.0) == {"tune": 2 * candidates + len(BASELINES)}


def test_statistics_are_of_each_setting_and_estimates_of_each_task(estimate):
    more = replace(ASKED, test=ASKED.test | {"4w1s": table(1)})
    assert estimate(asked=more) == {"evaluate": pytest.approx(STATISTICS * START)}
    more = replace(ASKED, estimates={"estimates/any": table(2), "estimates/domain": table(2)})
    assert estimate(asked=more) == {"evaluate": pytest.approx(4 * ESTIMATE * START)}


def test_single_task_learners_share_the_cores(estimate):
    """Two episodes of three tables; one candidate, on two episodes of each setting. A network takes its steps."""
    assert estimate(alone={"logistic": 1.0}) == {"tune": 4 / cores(), "evaluate": 6 / cores()}
    assert estimate(alone={"scratch": 1.0}) == {"tune": 2 * 4 * 4 / cores(), "evaluate": 6 * 4 / cores()}
