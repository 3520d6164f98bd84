"""What is chosen on the validation episodes once a method is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from metaloom.config import GradientSettings
from metaloom.learner.learner import Learner
from metaloom.learner.scoring import accuracy_and_nll
from metaloom.learner.temperature import LabelledLogits, Temperature
from metaloom.methods.base import Method
from metaloom.tasks import EpisodeTable

BETAS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
GUESSING = 0.97  # of the loss of one that guesses: a loss above has learned nothing
TEMPERED_ON = 30  # episodes per setting: enough for a temperature where each of them moves the whole network


def at_chance(record: Mapping[str, Any], method: Method, classes: int, n_way: int) -> bool:
    """Whether the loss since the validation before is that of one that guesses, or worse, and validation agrees: a head
    over all training classes may start far above that loss while the network below it learns well.

    Args:
        record: of a validation.
        method: which minimises the loss.
        classes: of the training split, each counted in every view.
        n_way: of the validation episodes.
    """
    return record["loss"] > GUESSING * method.chance(classes) and record["accuracy"] < 2 / n_way


def wants_beta(learner: Learner) -> bool:
    """Whether params leave β to the validation episodes."""
    settings = learner.method.settings
    return isinstance(settings, GradientSettings) and settings.beta == "auto"


def choose_beta(learner: Learner, examples: Tensor, validation: EpisodeTable) -> tuple[Learner, dict[str, Any]]:
    """The learner with its best β as a number, and what was found.

    Args:
        learner: trained.
        examples: the whole data set, raw, on the learner's device.
        validation: the episodes to choose on; never those of the test.

    Returns:
        The learner, and `chosen` with the scores of every β that was tried. The greatest accuracy wins, and the
        least NLL where that ties (anil's β leaves every accuracy as it is).
    """
    tried = {beta: accuracy_and_nll(learner.changed(beta=beta), examples, validation) for beta in BETAS}
    best = max(BETAS, key=lambda beta: (tried[beta]["accuracy"], -tried[beta]["nll"]))
    return learner.changed(beta=best), {"chosen": best, "tried": {str(beta): tried[beta] for beta in BETAS}}


def choose_temperature(learner: Learner, examples: Tensor, validation: Mapping[str, EpisodeTable]) -> Learner:
    """The learner with the temperature that gives the least NLL on the validation episodes of all settings."""
    plain = learner.tempered(Temperature())
    frozen = learner.method.frozen
    tables = {name: table if frozen else table.first(TEMPERED_ON) for name, table in validation.items()}
    answers = plain.answers(examples, tables)
    return learner.tempered(Temperature.fitted([_labelled(answers[name], table) for name, table in tables.items()]))


def _labelled(log_probabilities: Tensor, table: EpisodeTable) -> LabelledLogits:
    logits = log_probabilities.flatten(0, 1).cpu().numpy()
    return LabelledLogits(table.n_way, len(table.labels) / table.n_way, logits, np.tile(table.answers, len(table)))
