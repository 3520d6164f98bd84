"""What a run comes to, in words: is the champion worth it, and what to do next. The last line of a run.

The stage `report` writes it, so that a run in which all is cached reads one line and no tables.
"""

from __future__ import annotations

from typing import Any

from metaloom.report.inputs import Inputs, read_table
from metaloom.report.sections.headline import Headline, headline
from metaloom.report.sections.results import Results, load_results
from metaloom.report.words import learner_title
from metaloom.system.files import READ, read_json
from metaloom.system.quantities import percent

FEW_CLASSES = 50  # training classes, below which more of them help most
FAR = 1.5  # times as far from training as training classes are from each other: the median test class


def verdict(inputs: Inputs) -> str:
    """The champion, how it compares with the best that does without meta-learning, and what to do next.

    Raises:
        MetaloomError: a file of the evaluation or of the champion's training is absent or broken.
    """
    results = load_results(inputs)
    answer = headline(results)
    return f"{_answer(results, answer)}. {_next(inputs, results, answer)}"


def _answer(results: Results, answer: Headline) -> str:
    setting, name = answer.setting, learner_title(answer.champion)
    score, right = answer.score, percent(answer.score.accuracy)
    said = f"{name} is right in {right} of {setting.title} questions about classes that it has never seen"
    if score.of_other_classes:
        said += f" ({score.of_other_classes})"
    rival = answer.best
    if rival is None:
        return said
    lost = [each.title for each in results.settings if _is_behind(results, each.name)]
    elsewhere = f"; it is behind in {', '.join(dict.fromkeys(lost))}" if lost else ""
    compared = f"which is {rival.verdict}" if rival.verdict.startswith("not") else rival.verdict
    best = f"{learner_title(rival.name)}, the best without meta-learning"
    return f"{said}, {compared} {best}{rival.shared(score)}{elsewhere}"


def _is_behind(results: Results, setting: str) -> bool:
    """Whether a learner that does without meta-learning is clearly better."""
    gaps = (results.difference(name, setting) for name in results.rivals.get(setting, {}).values())
    return any(gap is not None and gap.clear and (gap.difference or 0) < 0 for gap in gaps)


def _next(inputs: Inputs, results: Results, answer: Headline) -> str:
    name, stage = results.champion, f"train@{results.champion}"
    trained: dict[str, Any] = read_json(inputs.models / name / "metrics.json", made_by=stage)
    classes = read_table(inputs.splits / "classes.parquet", "split", ["split"])
    training = int((classes["split"] == "train").sum())
    started = (inputs.models / name / READ).is_file()  # from an earlier model, with a share of the steps
    near = read_table(inputs.evaluation / "nearness.parquet", "evaluate", ["relative"])["relative"].median()
    if trained.get("at_chance"):
        return f"Its training loss stayed at chance: try a lower {name}.learning_rate, or another of `methods`"
    if training < FEW_CLASSES:
        return f"More classes would help most: it has learned from {training}"
    if near >= FAR:
        return f"Your test classes look like nothing in training ({near:.1f} times as far): add domains like them"
    if trained["best_step"] == trained["steps"]:
        more = "a larger train.start_steps" if started else f"`metaloom run --set {name}.steps={2 * trained['steps']}`"
        return f"It was still getting better: try {more}"
    if _is_behind(results, answer.setting.name):
        return f"Try another of `methods`, or more classes than the {training} that it has learned from"
    return "Adapt it to classes of your own: `metaloom adapt --support FOLDER --out BUNDLE`"
