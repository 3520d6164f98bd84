"""Accuracy by domain, and what accuracy costs in time and space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from metaloom.report.charts.xy import Series, xy_chart
from metaloom.report.inputs import Inputs, read_table
from metaloom.report.sections.results import Results
from metaloom.report.words import SettingWords, learner_hint, learner_title, milliseconds, setting_words
from metaloom.system.files import read_json
from metaloom.system.quantities import UNKNOWN, known, percent, size
from metaloom.system.times import noted_times

MOST_DOMAINS = 24
FASTEST, SLOWEST = 0.1, 10_000.0  # milliseconds: the ends of the axis, unless there is more


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map; `share` from 0 to 1."""

    text: str
    share: float
    title: str


@dataclass(frozen=True)
class HeatMap:
    """Accuracy of every learner (rows) in every domain (columns); None where it was not asked."""

    setting: SettingWords
    domains: list[str]
    rows: list[tuple[str, list[Cell | None]]]
    left_off: int


@dataclass(frozen=True)
class Price:
    """One learner's times and size in the headline's setting; `number` is its dot, where times are known."""

    number: int
    title: str
    hint: str
    adapt: str
    predict: str
    size: str
    accuracy: str


@dataclass(frozen=True)
class Tradeoffs:
    """The section: accuracy against labelled examples and ways, and what each learner costs."""

    maps: list[HeatMap]
    chart: Markup | None
    costs: list[Price]


def tradeoffs(inputs: Inputs, results: Results, setting: SettingWords) -> Tradeoffs:
    """For a setting, and for the same within one domain where it was asked.

    Raises:
        MetaloomError: a table is absent or of another format; the message names its stage.
    """
    columns = ["learner", "setting", "domain", "accuracy", "low95", "high95", "queries"]
    table = read_table(inputs.evaluation / "domains.csv", "evaluate", columns)
    names = [name for name in (setting.name, f"{setting.name}_domain") if (table["setting"] == name).any()]
    sizes = read_json(inputs.evaluation / "sizes.json", made_by="evaluate")
    times = noted_times(inputs.root, "evaluate", inputs.evaluation / "figures.json")
    chart, costs = _costs(results, setting, sizes, times)
    several = table["domain"].nunique() > 1  # of one domain the figures stand in the table of all
    maps = [_map(table[table["setting"] == name], setting_words(name)) for name in names if several]
    return Tradeoffs(maps, chart, costs)


def _map(table, setting: SettingWords) -> HeatMap:
    every = list(dict.fromkeys(table.sort_values("domain")["domain"]))
    domains = every[:MOST_DOMAINS]
    rows = []
    for learner, part in table.groupby("learner", sort=False):
        by = {row["domain"]: row for row in part.to_dict("records")}
        cells = [_cell(by[domain]) if domain in by else None for domain in domains]
        rows.append((learner_title(str(learner)), cells))
    return HeatMap(setting, [str(domain) for domain in domains], rows, len(every) - len(domains))


def _cell(row) -> Cell:
    interval = f"95% interval {percent(row['low95'])} to {percent(row['high95'])}, " if known(row["low95"]) else ""
    return Cell(percent(row["accuracy"], 0), float(row["accuracy"]), f"{interval}{row['queries']:,} queries")


def _costs(
    results: Results, setting: SettingWords, sizes: dict[str, Any], times: dict[str, Any]
) -> tuple[Markup | None, list[Price]]:
    """What each learner costs, the most accurate first, and the chart of it.

    Where times are known, those without one are left out.
    """
    costs, dots = [], []
    for name in results.ranked(setting.name, list(results.scores)):
        score = results.scores[name][setting.name]
        adapt, predict, bytes_ = (_of(table, name, setting.name) for table in (*_pair(times), sizes))
        if bytes_ is None or not known(score.accuracy) or (times and not adapt):
            continue
        costs.append(
            Price(
                len(costs) + 1,
                learner_title(name),
                learner_hint(name),
                _told(adapt),
                _told(predict),
                size(int(bytes_)),
                score.text,
            )
        )
        if adapt:
            dots.append((name, float(adapt), float(score.accuracy or 0)))
    return _cost_chart(results, dots, costs) if dots else None, costs


def _told(time: float | None) -> str:
    return UNKNOWN if time is None else milliseconds(time)


def _pair(times: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return times.get("adapt_ms", {}), times.get("predict_ms", {})


def _of(table: dict[str, Any], learner: str, setting: str) -> float | None:
    return table.get(learner, {}).get(setting)


def _cost_chart(results: Results, dots: list[tuple[str, float, float]], costs: list[Price]) -> Markup:
    """Time to adapt (logarithmic) against accuracy.

    Args:
        results: for the learners' roles.
        dots: learner, milliseconds, accuracy; numbered in this order.
        costs: the same in words, for the summary.
    """
    low = min(FASTEST, *(10 ** math.floor(math.log10(ms)) for _, ms, _ in dots))
    high = max(SLOWEST, *(10 ** math.ceil(math.log10(ms)) for _, ms, _ in dots))
    decades = round(math.log10(high / low))

    def place(ms: float) -> float:
        return math.log10(ms / low) / decades

    series = [
        Series(learner_title(name), [(place(ms), accuracy)], results.role(name), number=number)
        for number, (name, ms, accuracy) in enumerate(dots, start=1)
    ]
    return xy_chart(
        series[::-1],
        [(step / decades, milliseconds(low * 10**step)) for step in range(0, decades + 1, 2 if decades > 4 else 1)],
        [(share, f"{100 * share:.0f}%") for share in (0.0, 0.5, 1.0)],
        "Time to adapt against accuracy: " + "; ".join(f"{c.title} {c.adapt}, {c.accuracy}" for c in costs),
        x_label="time to learn a task, one thread",
        height=300,
        named=False,
    )
