"""Every figure of every learner, as a table that shows one measure at a time, and as CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, replace

from metaloom.report.sections.results import Figure, Results
from metaloom.report.words import GROUPS, SettingWords, chances, learner_hint, learner_title, three_decimals
from metaloom.system.certainty import ENOUGH_EPISODES, FEW_TEST_CLASSES, FEWEST_EPISODES
from metaloom.system.quantities import UNKNOWN, Number, known, percent

# of the CSV; shares, and differences as learner minus champion
COLUMNS = ["learner", "group", "champion", "setting", "n_way", "n_shot", "within_domain"]
COLUMNS += ["accuracy", "ci95", "worst_decile", "nll", "ece", "episodes", "failed"]
COLUMNS += ["classes", "classes_low95", "classes_high95"]
COLUMNS += ["difference", "difference_ci95", "difference_episodes", "p_holm"]


@dataclass(frozen=True)
class Measure:
    """One thing to show of a score: its name in the style sheet, its title, and what it means.

    Args:
        value: what to rank by, None where nothing is best.
        sign: -1 where the smallest is best.
    """

    name: str
    title: str
    meaning: str
    value: Callable[[Figure], Number | None] | None = None
    sign: int = 1


MEASURES = (
    Measure(
        "accuracy",
        "Accuracy",
        "Mean accuracy of the test episodes with its 95% interval: bootstrap over episodes; Student's t where they are "
        f"fewer than {ENOUGH_EPISODES}, and none where they are fewer than {FEWEST_EPISODES}. The second line, where "
        f"fewer than {FEW_TEST_CLASSES} classes were asked about, is the interval for other classes of this sort.",
        lambda score: score.accuracy,
    ),
    Measure(
        "behind",
        "From champion",
        "Percentage points above or below the champion, on the episodes that both answered, with the 95% interval. "
        "p is that of a permutation test for the best learner of each kind, corrected for the number of tests (Holm).",
    ),
    Measure(
        "worst",
        "Worst tenth",
        "Mean accuracy of the worst tenth of the episodes.",
        lambda score: score.worst_decile,
    ),
    Measure(
        "nll",
        "NLL",
        "Negative log-likelihood of the true class, in nats. Lower is better.",
        lambda score: score.nll,
        sign=-1,
    ),
    Measure(
        "ece",
        "Calibration error",
        "How far the probabilities are from how often they are right (ECE). Lower is better.",
        lambda score: score.ece,
        sign=-1,
    ),
    Measure("episodes", "Episodes", "How many test episodes were answered, and how many failed."),
)


@dataclass(frozen=True)
class Value:
    """What a cell shows of one measure.

    Args:
        measure: its name.
        text: the figure.
        note: a smaller second line.
        hint: what to say when asked about the figure.
        best: whether no learner has a better one in this setting.
        alarm: whether the note is a warning.
    """

    measure: str
    text: str
    note: str = ""
    hint: str = ""
    best: bool = False
    alarm: bool = False


@dataclass(frozen=True)
class Line:
    """One learner: a cell for each setting, each with a value for each measure."""

    title: str
    hint: str
    champion: bool
    cells: list[list[Value]]


@dataclass(frozen=True)
class Figures:
    """The table.

    Args:
        measures: what it can show; the first is shown at first.
        scopes: the columns: each scope with its settings.
        groups: of learners, each with a title, what they learn from, and their rows.
        csv: all of it as a data: URI.
    """

    measures: tuple[Measure, ...]
    scopes: list[tuple[str, list[SettingWords]]]
    groups: list[tuple[str, str, list[Line]]]
    csv: str

    @property
    def columns(self) -> int:
        return sum(len(settings) for _, settings in self.scopes)


def figures(results: Results) -> Figures:
    """The table of all results; a learner that was not asked in a setting has a dash there."""
    scopes: dict[str, list[SettingWords]] = {}
    for setting in results.settings:
        scopes.setdefault(setting.scope, []).append(setting)
    settings = [setting for of_scope in scopes.values() for setting in of_scope]
    best = {
        (setting.name, measure.name): _best(results, setting, measure) for setting in settings for measure in MEASURES
    }
    groups = []
    for group, (title, learns_from) in GROUPS.items():
        rows = [_row(results, learner, settings, best) for learner in results.of_group(group)]
        if rows:
            groups.append((title, learns_from, rows))
    return Figures(MEASURES, list(scopes.items()), groups, data_uri(to_csv(results, settings)))


def _best(results: Results, setting: SettingWords, measure: Measure) -> str:
    """The learner that is best in a setting; empty where there is none."""
    values = {}
    for learner in results.scores:
        score = results.score(learner, setting.name)
        value = measure.value(score) if score and measure.value else None
        if value is not None and known(value):
            values[learner] = measure.sign * value
    return max(values, key=lambda learner: values[learner], default="")


def _row(results: Results, learner: str, settings: list[SettingWords], best: dict[tuple[str, str], str]) -> Line:
    cells = []
    for setting in settings:
        won = {measure for (name, measure), winner in best.items() if name == setting.name and winner == learner}
        cells.append(_cell(results, learner, setting.name, won))
    return Line(learner_title(learner), learner_hint(learner), learner == results.champion, cells)


def _cell(results: Results, learner: str, setting: str, won: set[str]) -> list[Value]:
    score = results.score(learner, setting)
    if score is None or not known(score.accuracy):
        failed = score.failed if score else 0
        note = f"all {failed} failed" if failed else "not measured"
        return [Value(measure.name, UNKNOWN, note, alarm=failed > 0) for measure in MEASURES]
    gap = None if learner == results.champion else results.difference(learner, setting)
    few = "" if known(score.ci95) else "no interval"
    notes = [note for note in (few, f"{score.failed} failed" if score.failed else "") if note]
    answered = f"n = {score.episodes:,}"
    values = [
        Value("accuracy", score.text, score.over_classes, hint=f"{answered}, {few}" if few else ""),
        Value("behind", gap.behind if gap else UNKNOWN, chances(gap.p) if gap else ""),
        Value("worst", percent(score.worst_decile)),
        Value("nll", three_decimals(score.nll)),
        Value("ece", percent(score.ece)),
        Value("episodes", answered, ", ".join(notes), alarm=score.failed > 0),
    ]
    return [replace(value, best=value.measure in won) for value in values]


def to_csv(results: Results, settings: list[SettingWords]) -> str:
    """A line for each learner and setting that was asked, with unrounded figures; what is not known is empty."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    writer.writerow(COLUMNS)
    for learner in results.scores:
        for setting in settings:
            score = results.score(learner, setting.name)
            if score is not None:
                writer.writerow(_line(results, learner, setting, score))
    return lines.getvalue()


def _line(results: Results, learner: str, setting: SettingWords, score: Figure) -> list[object]:
    gap = results.difference(learner, setting.name)
    ahead = -gap.difference if gap and gap.difference is not None else None
    named = [learner, results.groups.get(learner, ""), learner == results.champion]
    shape = [setting.name, setting.n_way, setting.n_shot, setting.within_domain]
    own = [score.accuracy, score.ci95, score.worst_decile, score.nll, score.ece, score.episodes, score.failed]
    over_classes = [score.classes, score.classes_low95, score.classes_high95]
    paired = [ahead, gap.ci95, gap.episodes, gap.p] if gap else [None] * 4
    return [_plain(value) for value in (*named, *shape, *own, *over_classes, *paired)]


def _plain(value: str | Number | None) -> str | Number:
    """As a spreadsheet reads it: true and false, and nothing where a figure is not known."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    return value if value is not None and known(value) else ""


def data_uri(text: str) -> str:
    """A CSV as the target of a link, which works in a page that lies in a folder."""
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()
