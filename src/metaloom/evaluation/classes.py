"""How far other classes of the same sort may be from the test classes: intervals over classes.

An interval over episodes says how far other questions about the *same* classes may be. Where the test classes are few,
many episodes ask about them again and again, and it is far too narrow for classes that were not asked about (Lafargue,
Smith, Vermet, Löwe, Reid, Gripon, Valmadre: Oops, I Sampled it Again: Reinterpreting Confidence Intervals in Few-Shot
Learning, 2024, https://arxiv.org/abs/2409.02850).

Here a class is left out at a time (jackknife; for a mean over pairs, as this one, its variance errs on the safe side:
Efron, Stein: The Jackknife Estimate of Variance, 1981, https://doi.org/10.1214/aos/1176345462). Where an episode has
all the classes that there are, none could be left out of it; but each wrong answer is about two classes, the true one
and the one that was said. So the accuracy is one minus the mean over pairs of classes of how often one was taken for
the other, times the other ways of a question, and a class is left out by leaving out its pairs. The pictures of a class
go with it, so that their number counts too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from metaloom.evaluation.figures import Answers
from metaloom.learner.intervals import SPREAD, student

FEWEST = 3  # classes for an interval: pairs are left when one is gone


def without_each(answers: Answers, class_of: Int[np.ndarray, " item"]) -> Float[np.ndarray, " class"]:
    """The accuracy without each of the classes that were asked about, in the order of their codes.

    Args:
        answers: of episodes that were all answered.
        class_of: the code of the class of each row of the data set.
    """
    table, n_way, wrong = answers.table, answers.table.n_way, np.logical_not(answers.right)
    codes, ways = np.unique(class_of[table.query[:, :, 0]], return_inverse=True)
    ways = ways.reshape(len(table), n_way)
    true, said = ways[:, table.answers], np.take_along_axis(ways, answers.log_p.argmax(axis=2), axis=1)
    errors = sum(np.bincount(each[wrong], minlength=len(codes)) for each in (true, said))
    asked = table.query.shape[2] * (n_way - 1) * np.bincount(ways.ravel(), minlength=len(codes))
    with np.errstate(divide="ignore", invalid="ignore"):  # no pair is left of two classes
        return 1 - (n_way - 1) * (wrong.sum() - errors) / (asked.sum() - 2 * asked)


def standard_error(without: Float[np.ndarray, " class"]) -> float:
    """The jackknife's, of a figure from its values without each class; NaN where there is none."""
    if len(without) < FEWEST or not np.isfinite(without).all() or np.ptp(without) < SPREAD:
        return float("nan")
    return float(np.sqrt((len(without) - 1) * without.var()))


def over_classes(answers: Answers, class_of: Int[np.ndarray, " item"]) -> dict[str, Any]:
    """`classes` that were asked about, and the ends of the accuracy's 95% interval over them; NaN where there is none.

    Student's t on the scale of log odds, which holds its level near 1 too, where t on the accuracy itself does not (80%
    at an accuracy of 0.98 with five classes).
    """
    kept = answers.kept
    if not len(kept.table):
        return {"classes": 0, "classes_low95": float("nan"), "classes_high95": float("nan")}
    without, accuracy = without_each(kept, class_of), float(kept.accuracy.mean())
    error = standard_error(without)
    if not 0 < accuracy < 1:
        error = float("nan")
    odds = np.log(accuracy / (1 - accuracy)) if np.isfinite(error) else error
    half = student(max(2, len(without))) * error / (accuracy * (1 - accuracy)) if np.isfinite(error) else error
    low, high = (float(1 / (1 + np.exp(-end))) for end in (odds - half, odds + half))
    return {"classes": len(without), "classes_low95": low, "classes_high95": high}


def difference_over_classes(one: Answers, other: Answers, class_of: Int[np.ndarray, " item"]) -> float:
    """Half the width of the 95% interval over classes of one learner's accuracy minus another's, over the episodes that
    both answered; NaN where there is none."""
    episodes = min(len(one.table), len(other.table))
    both = ~one.failed[:episodes] & ~other.failed[:episodes]
    if not both.any():
        return float("nan")
    without = [without_each(each.first(episodes).only(both), class_of) for each in (one, other)]
    return student(max(2, len(without[0]))) * standard_error(without[0] - without[1])
