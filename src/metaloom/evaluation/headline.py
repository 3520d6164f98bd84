"""The few figures of an evaluation that git keeps, for `dvc metrics diff`; all of them are in an output of the stage.

A figure stands there alone, to the digits that its interval supports: what changes there is a change of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.evaluation.digits import POINTS
from metaloom.system.rounding import decimals, rounded

CHAMPION, LEAD = "champion", "lead"
OF_FIRST = POINTS[1:]  # figures of the first setting alone

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]  # figures by learner and setting


def headline(
    scores: Scores, champion: str, rivals: Mapping[str, Mapping[str, str]], differences: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The champion's accuracy in each setting, and in the first its other figures and its lead.

    Args:
        scores: every learner's figures, rounded.
        champion: the learner that validation chose.
        rivals: by setting the best single-task learner of each group.
        differences: of learners on the same episodes, as `tables.differences` has them.
    """
    own = scores[champion]
    first = next(iter(own))
    accuracies = {setting: figures["accuracy"] for setting, figures in own.items()}
    found = {CHAMPION: champion, "accuracy": accuracies} | {name: own[first][name] for name in OF_FIRST}
    ahead = lead(scores, champion, rivals, differences)
    if ahead is not None:
        found[LEAD] = rounded(ahead["difference"], decimals(ahead["ci95"]))
    return found


def lead(
    scores: Scores, champion: str, rivals: Mapping[str, Mapping[str, str]], differences: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The difference to the best that does without meta-learning, in the first setting; None where there is none.

    The arguments are those of `headline`.
    """
    first = next(iter(scores[champion]))
    others = rivals.get(first, {}).values()
    best = max(others, key=lambda name: scores[name][first]["accuracy"] or 0, default=None)
    named = (each for each in differences if (each["setting"], each["learner"]) == (first, champion))
    return next((each for each in named if each["rival"] == best and each["episodes"]), None)


def is_headline(raw: Any) -> bool:
    """Whether it is what `headline` made; else every learner's figures, which earlier versions gave git."""
    return isinstance(raw, Mapping) and isinstance(raw.get(CHAMPION), str)


def scores_of(raw: Any, where: str) -> Scores:
    """The figures by learner and setting, of either form: of a headline the champion's accuracies and what else it has.

    Args:
        raw: as JSON had it.
        where: it is from, for the message.

    Raises:
        MetaloomError: it has neither form.
    """
    found = raw
    if is_headline(raw) and isinstance(raw.get("accuracy"), Mapping):
        own = {setting: {"accuracy": value} for setting, value in raw["accuracy"].items()}
        for setting in list(own)[:1]:
            own[setting] |= {name: raw[name] for name in OF_FIRST if name in raw}
        found = {raw[CHAMPION]: own}
    learners = found.values() if isinstance(found, Mapping) else [None]
    if not all(
        isinstance(own, Mapping) and all(isinstance(each, Mapping) for each in own.values()) for own in learners
    ):
        raise MetaloomError(f"{where} has another form than figures by learner and setting")
    return found
