"""What a judgement comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Outcome = Literal["better", "not worse", "worse", "undecided"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def in_words(outcome: Outcome, champion: str, challenger: str, margin: float, spent: bool = False) -> str:
    """An outcome as a clause.

    Args:
        outcome: of the challenger.
        champion, challenger: names.
        margin: a share of 1.
        spent: whether no error is left to show anything with.
    """
    share = f"{100 * margin:g}"
    lead = {
        "better": f"{challenger} is better than {champion}",
        "not worse": f"{challenger} is not worse than {champion} by {share} {'point' if share == '1' else 'points'}",
        "worse": f"{challenger} is worse than {champion}",
        "undecided": f"whether {challenger} is better or worse than {champion} is not decided",
    }[outcome]
    return f"{lead}, as the year's error is spent (docs/judging.md)" if spent else lead


@dataclass(frozen=True)
class Verdict:
    """What a judgement comes to.

    Args:
        outcome: of the challenger. `better`: than the champion. `not worse`: it loses less than the margin. `worse`:
            than the champion. `undecided`: none of them could be shown within the limits.
        message: the same in one sentence, for a person.
        evidence: what it rests on, as plain JSON.
        held: why it is not to be promoted whatever the outcome, one clause for each guard that holds.
    """

    outcome: Outcome
    message: str
    evidence: dict[str, Any]
    held: tuple[str, ...] = ()

    @property
    def promotes(self) -> bool:
        """Whether the challenger may take the champion's place: it is better, and no guard holds."""
        return self.outcome == "better" and not self.held
