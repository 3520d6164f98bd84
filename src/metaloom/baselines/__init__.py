"""Single-task learners: what a user would do without meta-learning, each from the labelled examples of one task.

`BASELINES` has all of them, by group: those that have the task's labelled examples alone ("task"), those that start
from a network pre-trained by ordinary classification on the training classes ("transfer"), and scikit-learn's heads on
the champion's embeddings ("embedding"), which tell how much of a meta-learner's advantage is its embedding.
"""

from __future__ import annotations

from metaloom.baselines.catalogue import BASELINES, GROUPS, Baseline
from metaloom.baselines.choices import Choices, choose
from metaloom.baselines.features import Features
from metaloom.baselines.run import Answered, answer_all

__all__ = ["BASELINES", "GROUPS", "Answered", "Baseline", "Choices", "Features", "answer_all", "choose"]
