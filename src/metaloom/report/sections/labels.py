"""Accuracy by number of labelled examples, how many of them a meta-learner saves, more ways, uneven examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from metaloom.report.charts.xy import Series, xy_chart
from metaloom.report.inputs import Inputs, read_table
from metaloom.report.sections.results import Results
from metaloom.report.words import learner_title
from metaloom.system.certainty import ENOUGH_EPISODES
from metaloom.system.files import read_json
from metaloom.system.plural import several
from metaloom.system.quantities import known, percent

ALONE = "By labelled examples per class"  # the title where there is one scope
SCOPES = {"any": "Classes of any domain", "domain": "Classes of one domain"}
TO = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}"  # an interval stays on one line
POINT = ["accuracy", "low95", "high95", "episodes"]
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Needed:
    """How many labelled examples per class a rival needs to be as accurate as the champion is with `n_shot`.

    Args:
        scope: of episodes, a key of `SCOPES`.
        champion: its name.
        against: the rival's group; it is the one of them that needs the fewest.
        labels: None where `most` are too few; so are the ends of its interval, or where there is no interval.
        episodes: that champion and rival both answered with every number of examples.
    """

    scope: str
    champion: str
    n_shot: int
    accuracy: float
    against: str
    rival: str
    labels: float | None
    low95: float | None
    high95: float | None
    most: int
    episodes: int

    @property
    def has_interval(self) -> bool:
        """Whether there is a 95% interval; all of it may lie beyond `most`."""
        return self.episodes >= ENOUGH_EPISODES and (self.low95 is not None or self.labels is None)

    @property
    def saves(self) -> bool:
        """Whether the champion's labelled examples are fewer, clearly: the interval leaves their number out."""
        return self.has_interval and (self.low95 is None or self.low95 > self.n_shot)

    def told(self, few_classes: bool) -> str:
        """A sentence on the labelled examples saved, which says no more than the interval supports.

        Args:
            few_classes: whether the test classes are too few to tell about others.
        """
        rival, champion = learner_title(self.rival).lower(), f"{learner_title(self.champion)} with {self.n_shot}"
        needs = f"the quickest of them to catch up ({rival}) needs {self.needs} to be as accurate as {champion}"
        if not self.has_interval:
            answered = f"the quickest of them ({rival}) answered {several(self.episodes, 'episode')} of the studies"
            return f"How many more labelled examples it takes to catch up cannot be told: {answered}"
        if not self.saves:
            return f"Whether that saves labelled examples cannot be told: in the studies {needs}"
        return f"In the studies {needs}{', for these classes' if few_classes else ''}"

    @property
    def needs(self) -> str:
        """ "9 labelled examples per class (95% interval 7 to 12)", "more than 15 labelled examples per class"."""
        number = self._number(self.labels)
        return f"{number} labelled {'example' if number == '1' else 'examples'} per class{self._interval}"

    @property
    def brief(self) -> str:
        """ "9 (95% interval 7 to 12)", below a heading that says what is counted."""
        none = f" (no interval from {several(self.episodes, 'episode')})"
        return self._number(self.labels) + (self._interval if self.has_interval else none)

    @property
    def _interval(self) -> str:
        if self.low95 is None:
            return ""
        if self.labels is None:
            return f" (95% interval from {self._number(self.low95)})"
        return f" (95% interval {self._number(self.low95)} to {self._number(self.high95)})"

    def _number(self, labels: float | None) -> str:
        if labels is None:
            return f"more than {self.most}"
        return f"{labels:.0f}" if labels >= 9.95 or labels < 1.05 else f"{labels:.1f}"


@dataclass(frozen=True)
class Balance:
    """One learner with examples spread evenly and unevenly over the classes."""

    learner: str
    even: str
    uneven: str
    fewest: str
    most: str


@dataclass(frozen=True)
class Labels:
    """Empty parts were not studied.

    Args:
        panels: title, chart and table (learner → cells) for each scope of episodes.
        shots: columns of those tables.
        saved: see `Needed`.
        ways: chart of accuracy against ways, with its table.
        balance: rows.
        spread: how many examples each class had where they were spread unevenly.
        dotted: whether a panel has the dotted line of what is saved.
    """

    panels: list[tuple[str, Markup, list[tuple[str, list[str]]]]]
    shots: list[int]
    saved: list[Needed]
    ways: tuple[Markup, list[str], list[tuple[str, list[str]]]] | None
    balance: list[Balance]
    spread: str
    dotted: bool

    def of(self, scope: str, n_shot: int, against: str) -> Needed | None:
        found = (each for each in self.saved if (each.scope, each.n_shot, each.against) == (scope, n_shot, against))
        return next(found, None)


def labels(inputs: Inputs, results: Results) -> Labels:
    """Read the studies.

    Raises:
        MetaloomError: a table is absent or of another format; the message names its stage.
    """
    folder = inputs.evaluation
    table = read_table(folder / "labels.csv", "evaluate", ["kind", "learner", "n_shot", *POINT])
    saved = [_needed(each, table) for each in read_json(folder / "labels_saved.json", made_by="evaluate")]
    ways = read_table(folder / "ways.csv", "evaluate", ["learner", "n_way", "mean_ways", *POINT])
    balance = read_table(folder / "balance.csv", "evaluate", ["learner", "balance", "shots", "fewest", "most", *POINT])
    shots = sorted(table["n_shot"].unique().tolist())
    titles = SCOPES if table["kind"].nunique() > 1 else dict.fromkeys(SCOPES, ALONE)
    return Labels(
        panels=[
            _panel(titles[str(scope)], part, shots, [each for each in saved if each.scope == scope], results)
            for scope, part in table.groupby("kind", sort=False)
        ],
        shots=shots,
        saved=saved,
        ways=_ways(ways, results) if len(ways) else None,
        balance=_balance(balance),
        dotted=any(each.saves and each.against == "task" and each.n_shot == min(shots) for each in saved),
        spread=str(balance.loc[balance["balance"] == "uneven", "shots"].iloc[0]) if len(balance) else "",
    )


def _needed(record: dict[str, Any], table: pd.DataFrame) -> Needed:
    own = table[(table["kind"] == record["kind"]) & table["learner"].isin([record["learner"], record["rival"]])]
    values = {name: value for name, value in record.items() if name not in ("learner", "kind")}
    return Needed(scope=record["kind"], champion=record["learner"], episodes=int(own["episodes"].min()), **values)


def _panel(
    title: str, table: pd.DataFrame, shots: list[int], saved: list[Needed], results: Results
) -> tuple[str, Markup, list[tuple[str, list[str]]]]:
    place = _logarithmic(shots)
    against = [each for each in saved if each.n_shot == min(shots)]
    loud = {results.champion, *(each.rival for each in against)}
    series, rows = _series(table, "n_shot", {shot: place(shot) for shot in shots}, results, loud)
    arrow = None
    task = next((each for each in against if each.against == "task"), None)
    if task is not None and task.saves:
        end, words = (task.labels, f"{task.labels:.1f} examples") if task.labels else (task.most, f"over {task.most}")
        arrow = place(task.n_shot), place(end), task.accuracy, words
    ends = "; ".join(f"{name} {cells[0]} to {cells[-1]}" for name, cells in rows)
    chart = xy_chart(
        series,
        [(place(shot), str(shot)) for shot in shots],
        _quarters(table),
        f"Accuracy with {shots[0]} to {shots[-1]} labelled examples per class, {title.lower()}: {ends}",
        x_label="labelled examples per class",
        height=320,
        arrow=arrow,
    )
    return title, chart, rows


def _quarters(table: pd.DataFrame) -> list[tuple[float, str]]:
    """The upper ones, down to one below all accuracies."""
    lowest = table["accuracy"].min()
    return [(share, percent(share, 0)) for share in QUARTERS if share == 1 or not lowest > share + 0.25]


def _logarithmic(values: list[int]):
    low, high = math.log(values[0]), math.log(values[-1])
    return lambda value: (math.log(value) - low) / (high - low) if high > low else 0.5


def _series(
    table: pd.DataFrame, column: str, places: dict[Any, float], results: Results, loud: set[str]
) -> tuple[list[Series], list[tuple[str, list[str]]]]:
    """Lines, and the same as a table; learners that are not `loud` are faint."""
    series, rows = [], []
    for name, part in table.groupby("learner", sort=False):
        rows.append((learner_title(str(name)), [_cell(*row) for row in part[POINT].itertuples(index=False)]))
        part = part[part["accuracy"].notna()]
        points = [(places[at], y) for at, y in zip(part[column], part["accuracy"], strict=True)]
        whiskers = list(zip(part["low95"], part["high95"], strict=True)) if name in loud else []
        title, role = learner_title(str(name)), results.role(str(name))
        series.append(Series(title, points, role, name not in loud, name in loud, whiskers=whiskers))
    return series, rows


def _cell(accuracy: float, low: float, high: float, *_: object) -> str:
    interval = f" ({100 * low:.1f}{TO}{100 * high:.1f})" if known(low) and known(high) else ""
    return percent(accuracy) + interval


def _ways(table: pd.DataFrame, results: Results) -> tuple[Markup, list[str], list[tuple[str, list[str]]]]:
    table = table.assign(n_way=table["n_way"].astype(str))
    names = list(dict.fromkeys(table["n_way"]))
    mean = dict(zip(table["n_way"], table["mean_ways"], strict=True))
    heads = [f"all ({mean[name]:.0f})" if name == "all" else name for name in names]
    places = {name: place / max(1, len(names) - 1) for place, name in enumerate(names)}
    series, rows = _series(table, "n_way", places, results, {results.champion, *_best(table, results)})
    summary = "Accuracy by number of classes: " + "; ".join(f"{n} {cells[0]} to {cells[-1]}" for n, cells in rows)
    ticks = [(places[name], head) for name, head in zip(names, heads, strict=True)]
    return (
        xy_chart(series, ticks, _quarters(table), summary, x_label="classes, one labelled example each", height=300),
        heads,
        rows,
    )


def _best(table: pd.DataFrame, results: Results) -> set[str]:
    """The best single-task learner and the best pre-trained one at the fewest ways."""
    first = table[table["n_way"] == table["n_way"].iloc[0]].set_index("learner")["accuracy"]
    groups = ([name for name in results.of_group(group) if name in first] for group in ("task", "transfer"))
    return {str(first[names].idxmax()) for names in groups if names and first[names].notna().any()}


def _marked(accuracy: float, low: float, high: float, episodes: Any) -> str:
    """A cell that says how few the episodes were where there is no interval."""
    cell = _cell(accuracy, low, high)
    return cell if (known(low) and known(high)) or not known(accuracy) else f"{cell} (n = {episodes:.0f}, no interval)"


def _balance(table: pd.DataFrame) -> list[Balance]:
    rows = []
    for name, part in table.groupby("learner", sort=False):
        by = part.set_index("balance")
        even, uneven = (
            _marked(*(by.loc[which, column] for column in POINT)) if which in by.index else ""
            for which in ("even", "uneven")
        )
        ends = (percent(by.loc["uneven", end]) if "uneven" in by.index else "" for end in ("fewest", "most"))
        rows.append(Balance(learner_title(str(name)), even, uneven, *ends))
    return rows
