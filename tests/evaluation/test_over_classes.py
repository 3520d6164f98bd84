"""Intervals over classes, against a world whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from metaloom.evaluation.classes import difference_over_classes, over_classes, without_each
from metaloom.evaluation.figures import Answers, figures
from metaloom.tasks import EpisodeTable

EXAMPLES = 5  # of a class
SIZE = 8  # numbers of an example


def world(rng: np.random.Generator, classes: int, noise: float) -> np.ndarray:
    """Examples of classes that are drawn at random, some of them more spread out than others."""
    centre, spread = rng.normal(size=(classes, 1, SIZE)), noise * np.exp(0.3 * rng.normal(size=(classes, 1, 1)))
    return centre + spread * rng.normal(size=(classes, EXAMPLES, SIZE))


def answered(rng: np.random.Generator, examples: np.ndarray, episodes: int, ways: int, shots: int = 1) -> Answers:
    """Answers by the nearest mean of the support set, to 1-shot questions about some of the classes."""
    chosen = rng.random((episodes, len(examples))).argsort(axis=1)[:, :ways, None]
    rows = chosen * EXAMPLES + rng.random((episodes, ways, EXAMPLES)).argsort(axis=2)
    table = EpisodeTable(rows[:, :, :shots], rows[:, :, shots:])
    z = examples.reshape(-1, SIZE)
    means, query = z[table.support].mean(axis=2), z[table.query_rows]
    return Answers(log_softmax(-((query[:, :, None] - means[:, None]) ** 2).sum(axis=3), axis=2), table)


def truth(rng: np.random.Generator, ways: int, noise: float) -> float:
    """Accuracy on 8,000 questions, each about classes of its own."""
    z = world(rng, 8000 * ways, noise).reshape(8000, ways, EXAMPLES, SIZE)
    distance = ((z[:, :, None, 1] - z[:, None, :, 0]) ** 2).sum(axis=3)
    return float((distance.argmin(axis=2) == np.arange(ways)).mean())


def holds(ways: int, classes: int, noise: float, worlds: int = 200) -> tuple[float, float]:
    """How often the interval over episodes holds the accuracy on all classes that there could be, and the one over
    classes."""
    rng = np.random.default_rng(0)
    true, class_of = truth(rng, ways, noise), np.arange(classes * EXAMPLES) // EXAMPLES
    held = np.zeros(2)
    for _ in range(worlds):
        answers = answered(rng, world(rng, classes, noise), 60, ways)
        episodes, over = figures(answers, 200), over_classes(answers, class_of)
        held += episodes["low95"] <= true <= episodes["high95"], over["classes_low95"] <= true <= over["classes_high95"]
    return held[0] / worlds, held[1] / worlds


@pytest.mark.parametrize(
    ("ways", "classes", "noise"),
    [(3, 5, 0.8), (5, 5, 0.6), (5, 10, 0.4)],
    ids=["5 classes", "5 classes in every question", "10 classes that are told apart well"],
)
def test_it_holds_the_accuracy_on_other_classes_where_the_one_over_episodes_does_not(ways, classes, noise):
    """3.3 standard errors of a share of 0.95 of 200 are 5 points."""
    episodes, over = holds(ways, classes, noise)
    assert episodes < 0.5
    assert over >= 0.90


def test_it_is_not_much_wider_than_need_be():
    """Where every class is asked about once, the interval over episodes holds for other classes, too."""
    rng = np.random.default_rng(1)
    examples = world(rng, 1500, 0.8)
    rows = np.arange(1500 * EXAMPLES).reshape(300, 5, EXAMPLES)
    table = EpisodeTable(rows[:, :, :1], rows[:, :, 1:])
    z = examples.reshape(-1, SIZE)
    distance = ((z[table.query_rows][:, :, None] - z[table.support][:, None, :, 0]) ** 2).sum(axis=3)
    answers = Answers(-distance, table)
    episodes, over = figures(answers, 2000), over_classes(answers, np.arange(7500) // EXAMPLES)
    width = over["classes_high95"] - over["classes_low95"]
    assert 0.9 < width / (episodes["high95"] - episodes["low95"]) < 1.75


def test_without_a_class_is_the_accuracy_of_the_other_pairs():
    """A plain loop over the answers; all of them together give the accuracy itself."""
    rng = np.random.default_rng(2)
    answers, class_of = answered(rng, world(rng, 6, 0.8), 30, 4), np.arange(30) // EXAMPLES
    taken, asked = np.zeros((6, 6)), np.zeros((6, 6))
    ways = class_of[answers.table.query[:, :, 0]]
    for own, said in zip(ways, answers.log_p.argmax(axis=2), strict=True):
        for way, answer in zip(answers.table.answers, said, strict=True):
            for other in set(range(4)) - {way}:
                asked[own[way], own[other]] += 1
                taken[own[way], own[other]] += answer == other
    assert 1 - 3 * taken.sum() / asked.sum() == pytest.approx(answers.accuracy.mean())
    others = [np.delete(np.delete(np.stack([taken, asked]), each, 1), each, 2).sum(axis=(1, 2)) for each in range(6)]
    assert without_each(answers, class_of) == pytest.approx([1 - 3 * wrong / asked for wrong, asked in others])


def test_two_classes_and_no_wrong_answer_have_none():
    rng = np.random.default_rng(3)
    for classes, noise in ((2, 0.8), (5, 1e-6)):
        answers = answered(rng, world(rng, classes, noise), 20, 2)
        found = over_classes(answers, np.arange(classes * EXAMPLES) // EXAMPLES)
        assert found["classes"] == classes and np.isnan([found["classes_low95"], found["classes_high95"]]).all()
    failed = Answers(np.full_like(answers.log_p, np.nan), answers.table)
    assert over_classes(failed, np.arange(25) // EXAMPLES)["classes"] == 0


def test_a_difference_holds_the_one_on_other_classes():
    """One learner has one labelled example of each class, the other two; only the episodes that both answered count."""
    rng, class_of = np.random.default_rng(4), np.arange(6 * EXAMPLES) // EXAMPLES
    gaps, halves = [], []
    for _ in range(200):
        examples = world(rng, 6, 0.9)
        many = answered(rng, examples, 40, 3, shots=2)
        z, table = examples.reshape(-1, SIZE), many.table
        one = -((z[table.query_rows][:, :, None] - z[table.support[:, :, 0]][:, None]) ** 2).sum(axis=3)
        few = Answers(one[:30], table.first(30))
        gaps.append(many.accuracy[:30].mean() - few.accuracy.mean())
        halves.append(difference_over_classes(many, few, class_of))
    assert np.mean(np.abs(gaps - np.mean(gaps)) <= halves) >= 0.90
    nothing = Answers(np.full_like(few.log_p, np.nan), few.table)
    assert np.isnan(difference_over_classes(many, nothing, class_of))
