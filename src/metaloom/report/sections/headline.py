"""The answer in one sentence: the champion, and how far it is ahead of what one would do without it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from metaloom.errors import MetaloomError
from metaloom.report.charts.marks import Gap
from metaloom.report.sections.results import NOT_COMPARED, STAGE, Difference, Figure, Results, accuracy_plot, shown
from metaloom.report.words import SettingWords, learner_title
from metaloom.system.files import makes_again
from metaloom.system.plural import several
from metaloom.system.quantities import known


@dataclass(frozen=True)
class Lead:
    """The best single-task learner of a group, and how far the champion is ahead of it."""

    name: str
    score: Figure
    difference: Difference | None

    @property
    def is_behind(self) -> bool:
        """Whether it has something to catch up with: the champion is clearly more accurate."""
        gap = self.difference
        return gap is not None and gap.clear and (gap.difference or 0) > 0

    @property
    def verdict(self) -> str:
        """ "31.2 ± 0.9 points more than"; says so where an interval holds zero, or where there is none."""
        return NOT_COMPARED if self.difference is None else self.difference.verdict

    def shared(self, champion: Figure) -> str:
        """ " on the 20 episodes that both answered" where these are fewer than those of its accuracy; else ""."""
        gap = self.difference
        if gap is None or not known(gap.ci95) or gap.episodes == champion.episodes:
            return ""
        return f" on the {several(gap.episodes, 'episode')} that both answered"


@dataclass(frozen=True)
class Headline:
    """The answer: the champion at the first setting.

    Args:
        rival: the best learner that learns from the task's examples alone; None where none was measured.
        transfer: the best that starts from a network pre-trained on the training classes; None likewise.
    """

    setting: SettingWords
    champion: str
    score: Figure
    rival: Lead | None
    transfer: Lead | None

    @property
    def leads(self) -> list[tuple[str, Lead]]:
        """Group and lead of what one would do otherwise, the best first: the gain over that one is the honest one."""
        there = [(group, lead) for group, lead in (("task", self.rival), ("transfer", self.transfer)) if lead]
        return sorted(there, key=lambda each: -(each[1].score.accuracy or 0))

    @property
    def best(self) -> Lead | None:
        """The best of them; None where none was measured."""
        return self.leads[0][1] if self.leads else None


def headline(results: Results) -> Headline:
    """The champion's first setting that it has a figure for.

    Raises:
        MetaloomError: the champion has no figure at all.
    """
    for setting in results.settings:
        score = results.score(results.champion, setting.name)
        if score is not None and known(score.accuracy):
            break
    else:
        raise MetaloomError(
            f"the champion {learner_title(results.champion)} has no accuracy at all: {makes_again(STAGE)}"
        )
    return Headline(
        setting,
        results.champion,
        score,
        _rival(results, setting.name, "task"),
        _rival(results, setting.name, "transfer"),
    )


def _rival(results: Results, setting: str, group: str) -> Lead | None:
    name = results.rivals.get(setting, {}).get(group)
    score = results.score(name, setting) if name else None
    return Lead(name, score, results.difference(name, setting)) if name and score and known(score.accuracy) else None


def hardest(results: Results) -> SettingWords:
    """The setting with the least to go on: within one domain, most ways, fewest shots."""
    measured = [setting for setting in results.settings if setting.name in results.scores[results.champion]]
    return max(measured, key=lambda setting: (setting.within_domain, setting.n_way, -setting.n_shot))


def answer_plot(results: Results, answer: Headline) -> Markup:
    """The chart of the headline's setting, with the champion's lead drawn in."""
    return accuracy_plot(results, answer.setting, _gap(results, answer))


def _gap(results: Results, answer: Headline) -> Gap | None:
    """From the dot of the best alternative to the champion's; none where it is not clearly above."""
    rival = answer.best
    gap = rival.difference if rival else None
    if gap is None or rival is None or not gap.clear or (gap.difference or 0) < 0:
        return None
    row = shown(results, answer.setting).index(rival.name)
    return Gap(row, rival.score.accuracy or 0.0, answer.score.accuracy or 0.0, f"{gap.text} points")
