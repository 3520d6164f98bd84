"""What was measured: learners and settings, the champion, and the answer in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.io import read_json
from metaloom.report.inputs import Inputs
from metaloom.report.words import (
    Number,
    SettingWords,
    known,
    learner_title,
    points,
    setting_words,
    with_interval,
)

REMAKE = "`dvc repro -f evaluate` makes it anew"


@dataclass(frozen=True)
class Score:
    """One learner in one setting, over its test episodes; `ci95` is half the width of the 95% interval."""

    accuracy: Number | None
    ci95: Number | None
    nll: Number | None
    episodes: int

    @property
    def text(self) -> str:
        return with_interval(self.accuracy, self.ci95)


@dataclass(frozen=True)
class Difference:
    """Champion minus another learner, on the episodes that both answered."""

    difference: Number | None
    ci95: Number | None
    episodes: int

    @property
    def text(self) -> str:
        return points(self.difference, self.ci95)

    @property
    def behind(self) -> str:
        """The same from the other learner's side: "−31.2 ± 0.9"."""
        return points(-self.difference if self.difference is not None else None, self.ci95)

    @property
    def clear(self) -> bool:
        """Whether the 95% interval leaves out zero."""
        return known(self.difference) and known(self.ci95) and abs(self.difference or 0) > (self.ci95 or 0)


@dataclass(frozen=True)
class Results:
    """Every figure of the evaluation: `scores[learner][setting]`, `differences[setting][learner]`."""

    scores: dict[str, dict[str, Score]]
    differences: dict[str, dict[str, Difference]]
    champion: str
    methods: tuple[str, ...]

    @cached_property
    def settings(self) -> list[SettingWords]:
        names = dict.fromkeys(name for by_setting in self.scores.values() for name in by_setting)
        return [setting_words(name) for name in names]

    @property
    def meta_learners(self) -> list[str]:
        return [name for name in self.scores if name in self.methods]

    @property
    def single_task(self) -> list[str]:
        return [name for name in self.scores if name not in self.methods]

    def score(self, learner: str, setting: str) -> Score | None:
        return self.scores[learner].get(setting)

    def difference(self, learner: str, setting: str) -> Difference | None:
        return self.differences.get(setting, {}).get(learner)

    def ranked(self, setting: str, learners: list[str]) -> list[str]:
        """Those of `learners` that have a figure for the setting, best first."""
        figures = {
            name: score.accuracy
            for name in learners
            if (score := self.score(name, setting)) is not None and known(score.accuracy)
        }
        return sorted(figures, key=lambda name: -(figures[name] or 0))


def load_results(inputs: Inputs) -> Results:
    """Read what `evaluate` measured.

    Raises:
        MetaloomError: a file is absent or unlike the format; the message says what to do.
    """
    scores = _tree(inputs.metrics / "evaluation.json", _score)
    differences = _tree(inputs.evaluation / "differences.json", _difference)
    champion = read_json(inputs.evaluation / "champion.json", made_by="evaluate")["method"]
    if not scores or not any(scores.values()):
        raise MetaloomError(f"{inputs.metrics / 'evaluation.json'} holds no figures: {REMAKE}")
    if champion not in scores:
        raise MetaloomError(f"the champion {champion} has no figures in {inputs.metrics}/evaluation.json: {REMAKE}")
    return Results(scores, differences, champion, inputs.methods)


def _tree(path: Any, leaf: Any) -> dict[str, dict[str, Any]]:
    raw = read_json(path, made_by="evaluate")
    try:
        return {outer: {inner: leaf(value) for inner, value in row.items()} for outer, row in raw.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise MetaloomError(f"{path} is not in the expected format ({error!r}): {REMAKE}") from None


def _score(raw: dict[str, Any]) -> Score:
    return Score(raw["accuracy"], raw["ci95"], raw.get("nll"), raw["episodes"])


def _difference(raw: dict[str, Any]) -> Difference:
    return Difference(raw["difference"], raw["ci95"], raw["episodes"])


@dataclass(frozen=True)
class Headline:
    """The answer: the champion at the first setting, beside the best single-task learner if there is one."""

    setting: SettingWords
    champion: str
    score: Score
    rival: str | None
    rival_score: Score | None
    difference: Difference | None

    @property
    def verdict(self) -> str:
        """ "31.2 ± 0.9 points more than", or an honest word where the interval holds zero."""
        gap = self.difference
        if gap is None or not known(gap.difference):
            return "to be compared with"
        if not gap.clear:
            return f"not clearly different ({gap.text} points) from"
        text = gap.text.lstrip("+\N{MINUS SIGN}")
        return f"{text} points {'more' if (gap.difference or 0) > 0 else 'less'} than"


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
        raise MetaloomError(f"the champion {learner_title(results.champion)} has no accuracy at all: {REMAKE}")
    rivals = results.ranked(setting.name, results.single_task)
    rival = rivals[0] if rivals else None
    return Headline(
        setting,
        results.champion,
        score,
        rival,
        results.score(rival, setting.name) if rival else None,
        results.difference(rival, setting.name) if rival else None,
    )


def hardest(results: Results) -> SettingWords:
    """The setting with the least to go on: within one domain, most ways, fewest shots."""
    measured = [setting for setting in results.settings if setting.name in results.scores[results.champion]]
    return max(measured, key=lambda setting: (setting.within_domain, setting.n_way, -setting.n_shot))
