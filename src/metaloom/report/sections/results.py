"""What was measured: every learner in every setting, and the champion's lead; a chart for each setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from metaloom.errors import MetaloomError
from metaloom.report.charts.marks import Dot, Gap, dot_plot
from metaloom.report.inputs import Inputs
from metaloom.report.words import SettingWords, learner_title, points, setting_words, unbroken, with_interval
from metaloom.system import certainty
from metaloom.system.files import makes_again, read_json
from metaloom.system.quantities import Number, from_to, known

STAGE = "evaluate"
NOT_COMPARED = "to be compared with"


@dataclass(frozen=True)
class Figure:
    """One learner in one setting, over its test episodes; `ci95` is half the width of the 95% interval.

    `classes` were asked about; `classes_low95` and `classes_high95` are the ends of the interval over classes.
    """

    accuracy: Number | None
    ci95: Number | None
    nll: Number | None
    episodes: int
    ece: Number | None = None
    worst_decile: Number | None = None
    failed: int = 0
    classes: int | None = None
    classes_low95: Number | None = None
    classes_high95: Number | None = None

    @property
    def text(self) -> str:
        return with_interval(self.accuracy, self.ci95)

    @property
    def few_classes(self) -> bool:
        """Whether the interval over episodes says little about other classes than those that were asked about."""
        return certainty.few_test_classes(self.classes)

    @property
    def over_classes(self) -> str:
        """ "46.1 to 76.2%" where the classes are few; empty where they are not, or where there is no interval."""
        return from_to(self.classes_low95, self.classes_high95) if self.few_classes else ""

    @property
    def of_other_classes(self) -> str:
        """The same as something to say; empty where the classes are not few."""
        return certainty.of_other_classes(self.classes, self.classes_low95, self.classes_high95)


@dataclass(frozen=True)
class Difference:
    """One learner minus another, on the episodes that both answered; `p` is corrected for their number (Holm).

    `classes_ci95` is half the width of the interval over classes, which counts where these are few.
    """

    difference: Number | None
    ci95: Number | None
    episodes: int
    p: Number | None = None
    classes_ci95: Number | None = None
    few_classes: bool = False

    @property
    def text(self) -> str:
        return points(self.difference, self.ci95)

    @property
    def behind(self) -> str:
        """The same from the other learner's side: "−31.2 ± 0.9"."""
        return points(-self.difference if self.difference is not None else None, self.ci95)

    @property
    def clear(self) -> bool:
        """Whether the 95% interval leaves out zero; over classes too, where these are few."""
        return self.difference is not None and certainty.is_clear(
            self.difference, self.ci95, self.classes_ci95, self.few_classes
        )

    @property
    def verdict(self) -> str:
        """ "31.2 ± 0.9 points more than"; says so where an interval holds zero, or where there is none."""
        if self.difference is None or not known(self.difference):
            return NOT_COMPARED
        return unbroken(
            certainty.compared(self.difference, self.ci95, self.classes_ci95, self.few_classes, self.episodes)
        )


@dataclass(frozen=True)
class Results:
    """Every figure of the evaluation.

    Args:
        scores: by learner and setting.
        differences: by setting, learner and rival.
        rivals: by setting, the best single-task learner of each group.
        groups: of each learner: a key of `words.GROUPS`.
        champion: chosen on validation episodes.
        methods: the meta-learners.
    """

    scores: dict[str, dict[str, Figure]]
    differences: dict[tuple[str, str, str], Difference]
    rivals: dict[str, dict[str, str]]
    groups: dict[str, str]
    champion: str
    methods: tuple[str, ...]

    @cached_property
    def settings(self) -> list[SettingWords]:
        names = dict.fromkeys(name for by_setting in self.scores.values() for name in by_setting)
        return [setting_words(name) for name in names]

    @property
    def meta_learners(self) -> list[str]:
        return self.of_group("meta")

    @property
    def single_task(self) -> list[str]:
        return [name for name in self.scores if self.groups.get(name) != "meta"]

    def of_group(self, group: str) -> list[str]:
        return [name for name in self.scores if self.groups.get(name) == group]

    def role(self, learner: str) -> str:
        """How a chart shows it."""
        if learner == self.champion:
            return "champion"
        return "meta" if self.groups.get(learner) == "meta" else "single"

    def score(self, learner: str, setting: str) -> Figure | None:
        return self.scores[learner].get(setting)

    def difference(self, learner: str, setting: str) -> Difference | None:
        """The champion minus the learner."""
        return self.differences.get((setting, self.champion, learner))

    @property
    def better_heads(self) -> list[tuple[str, SettingWords, Difference]]:
        """Where another head on the champion's embeddings is clearly better than the champion's own."""
        return [
            (name, setting, gap)
            for name in self.of_group("embedding")
            for setting in self.settings
            if (gap := self.difference(name, setting.name)) and gap.clear and (gap.difference or 0) < 0
        ]

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
    path, folder = inputs.evaluation / "figures.json", inputs.evaluation
    scores = _parsed(path, lambda raw: {k: {s: _score(each) for s, each in row.items()} for k, row in raw.items()})
    champion = read_json(folder / "champion.json", made_by=STAGE)["method"]
    if not scores or not any(scores.values()):
        raise MetaloomError(f"{path} holds no figures: {makes_again(STAGE)}")
    if champion not in scores:
        raise MetaloomError(f"the champion {champion} has no figures in {path}: {makes_again(STAGE)}")
    differences = _parsed(folder / "differences.json", _differences)
    return Results(
        scores=scores,
        differences={
            where: replace(each, few_classes=scores[where[1]][where[0]].few_classes)
            for where, each in differences.items()
        },
        rivals=_parsed(folder / "rivals.json", dict),
        groups=_parsed(folder / "learners.json", lambda raw: {name: each["group"] for name, each in raw.items()}),
        champion=champion,
        methods=inputs.methods,
    )


def _parsed(path: Path, parse: Callable[[Any], Any]) -> Any:
    raw = read_json(path, made_by=STAGE)
    try:
        return parse(raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MetaloomError(f"{path} is not in the expected format ({error!r}): {makes_again(STAGE)}") from None


def _score(raw: dict[str, Any]) -> Figure:
    return Figure(
        raw["accuracy"],
        raw["ci95"],
        raw.get("nll"),
        raw["episodes"],
        raw.get("ece"),
        raw.get("worst_decile"),
        raw.get("failed", 0),
        raw.get("classes"),
        raw.get("classes_low95"),
        raw.get("classes_high95"),
    )


def _differences(raw: list[dict[str, Any]]) -> dict[tuple[str, str, str], Difference]:
    return {
        (each["setting"], each["learner"], each["rival"]): Difference(
            each["difference"], each["ci95"], each["episodes"], each["p_holm"], each.get("classes_ci95")
        )
        for each in raw
    }


def shown(results: Results, setting: SettingWords) -> list[str]:
    """The meta-learners and the best single-task learner of each kind, best first: a chart of all has no room."""
    names = [*results.meta_learners, *results.rivals.get(setting.name, {}).values()]
    return results.ranked(setting.name, names)


def accuracy_plot(results: Results, setting: SettingWords, gap: Gap | None = None) -> Markup:
    """The learners of one setting on one scale, best first."""
    dots = []
    for name in shown(results, setting):
        score = results.scores[name][setting.name]
        dots.append(Dot(learner_title(name), score.accuracy or 0.0, score.ci95, score.text, results.role(name)))
    summary = f"Accuracy, {setting.full}: " + "; ".join(f"{dot.label} {dot.text}" for dot in dots)
    return dot_plot(dots, setting.chance, summary, gap)
