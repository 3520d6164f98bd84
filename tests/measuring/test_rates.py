"""What a few steps took, and what follows for more of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trainers import images_of_classes

from metaloom.baselines import BASELINES
from metaloom.baselines.run import Answered
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.measuring.rates import Learns, MethodRate, Rates, SingleTaskRate
from metaloom.measuring.timing import MOST_LINES, REPEATS, STEPS_ALONE, Stopwatch, _of_learner, _telling, sampled
from metaloom.tasks import EpisodeTable

SHAPE = (1, 28, 28)


def table(episodes: int = 2, ways: int = 3, shots: int = 1, queries: int = 2) -> EpisodeTable:
    rows = np.arange(ways * (shots + queries)).reshape(1, ways, -1).repeat(episodes, axis=0)
    return EpisodeTable(rows[:, :, :shots], rows[:, :, shots:])


@pytest.fixture(scope="module")
def encoding() -> PictureEncoding:
    return PictureEncoding.of(images_of_classes())


def test_a_task_takes_as_long_as_the_line_between_two_says():
    alone = SingleTaskRate({25: 3.0, 5: 1.0, 100: 4.5}, 0.0)
    assert [alone.task(labelled) for labelled in (1, 5, 15, 50, 200)] == [1.0, 1.0, 2.0, 3.5, 4.5]


def test_the_quickest_of_several_turns_counts():
    """A turn that another program disturbed does not."""
    ticks = iter([0.0, 9.0, 10.0, 12.0, 20.0, 24.0])
    watch = Stopwatch(lambda: 0.0, clock=lambda: next(ticks))
    assert watch.quickest(lambda: None, 3) == 2.0


def test_it_is_shown_how_long_it_has_been_measuring():
    assert Stopwatch(lambda: 12.4).text() == "12 s so far"


@pytest.mark.parametrize("bars", [False, True])
def test_a_log_is_told_what_is_measured_in_a_few_lines(bars, monkeypatch, capsys):
    """Where bars move nothing else is said."""
    monkeypatch.setattr("metaloom.measuring.timing.shows_bars", lambda: bars)
    watch = Stopwatch(lambda: 12.4)
    for part in range(MOST_LINES + 2):
        watch.tell(f"part {part}")
    said = capsys.readouterr().out.splitlines()
    assert said == ([] if bars else [f"measuring part {part} (12 s so far)" for part in range(MOST_LINES)])


def test_frozen_embeddings_are_made_once_per_example(tiny_settings, encoding):
    assert Learns.of(Learner.create("protonet", tiny_settings, encoding)).passes(table(), table(episodes=5)) == 9


@pytest.mark.parametrize("steps", [2, 4])
def test_a_network_that_learns_passes_each_labelled_example_three_times_a_step(tiny_settings, encoding, steps):
    """Two episodes of three labelled examples, and of six that are asked about."""
    own = Learner.create("maml", tiny_settings, encoding).changed(inner_steps=steps)
    learns = Learns.of(own)
    assert learns.passes(table()) == 2 * (3 * steps * 3 + 6)
    assert MethodRate(learns, SHAPE, 1, step=1.0, passes=0.5).answering(table(), table()) == learns.passes(table())


def test_a_width_that_was_not_measured_takes_more_where_the_network_is_at_work():
    own = Learns(frozen=True), SHAPE, 1
    rates = Rates(
        2.0,
        1.0,
        0.1,
        {"protonet": MethodRate(*own, 1.0, 0.5)},
        {n: SingleTaskRate({5: 1.0}, 0.1) for n in BASELINES},
        7,
    )
    wider = rates.scaled(3.0)
    assert wider.trained == {"protonet": MethodRate(*own, 3.0, 1.5)}
    assert wider.alone["scratch"].tasks == wider.alone["finetune_all"].tasks == {5: 3.0}
    assert wider.alone["forest"] == rates.alone["forest"]
    assert (wider.start, wider.fit) == (rates.start, rates.fit)


def test_the_sizes_that_are_asked_for_most_are_measured():
    tables = {"5w1s": table(12), "5w5s": table(shots=5), "labels/2": table(shots=2), "ways/9": table(ways=9, shots=2)}
    assert {size: len(each) for size, each in sampled(tables).items()} == {3: 10, 15: 2, 18: 1}


def test_a_network_takes_no_longer_for_a_step_from_a_batch_upward():
    assert _telling([5, 20, 25, 100, 143], 25) == [5, 20, 25]
    assert _telling([5, 100, 143], 25) == [5, 100] and _telling([5, 100], math.inf) == [5, 100]


@pytest.mark.parametrize(("name", "steps"), [("logistic", 1), ("scratch", STEPS_ALONE)])
def test_the_quickest_turn_of_a_single_task_learner_counts(name, steps):
    """One that fails is done at once, which says nothing."""

    def answered(seconds: float, failed: bool = False) -> Answered:
        return Answered(np.zeros((1, 6, 3), np.float32), np.array([failed]), seconds, seconds / 10, 0)

    turns = {
        (name, size, turn): answered(seconds + turn) for size, seconds in ((3, 1), (15, 2)) for turn in range(REPEATS)
    }
    assert _of_learner(name, turns) == SingleTaskRate({3: 1 / steps, 15: 2 / steps}, 0.2)
    turns[name, 3, 0] = answered(0.0, failed=True)
    assert _of_learner(name, turns).tasks[3] == 2 / steps
