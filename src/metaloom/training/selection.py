"""What is chosen on the validation episodes once a method is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaloom.config import GradientSettings
from metaloom.learner.learner import Learner
from metaloom.learner.placement import picked
from metaloom.learner.scoring import accuracy_and_nll
from metaloom.learner.temperature import LabelledLogits, Temperature
from metaloom.methods.base import Method
from metaloom.system.terminal import say
from metaloom.tasks import EpisodeTable, spread_rows

BETAS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
GUESSING = 0.97  # of the loss of one that guesses: a loss above has learned nothing
FITTED_ON = 20_000  # training examples at most, that weights to start from follow from
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


def choose_start(learner: Learner, examples: Tensor, training: pd.DataFrame, validation: EpisodeTable) -> Learner:
    """The learner with those of its network's closed weights that validate best; as it is where there are none.

    Args:
        learner: fresh.
        examples: the whole data set, raw; they may be on the host.
        training: the class table of the training split.
        validation: the episodes to choose on; never those of the test.
    """
    if not learner.method.network.closed:
        return learner
    rows = torch.as_tensor(spread_rows(training, FITTED_ON))
    firsts = torch.as_tensor(np.sort(training["first"].to_numpy()))
    classes = torch.searchsorted(firsts, rows, right=True)
    starts = learner.method.network.starts(learner.encoding(picked(examples, rows, learner.device)), classes)
    params = learner.params
    tried = {name: replace(learner, params=replace(params, weights=params.weights | own)) for name, own in starts}
    scores = {name: accuracy_and_nll(each, examples, validation) for name, each in tried.items()}
    best = max(scores, key=lambda name: (scores[name]["accuracy"], -scores[name]["nll"]))
    say(f"{learner.name}: {best}, {scores[best]['accuracy']:.1%} on validation before training")
    return tried[best]


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
