"""How far the figures can be trusted: calibration, and estimates of accuracy from a support set alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from metaloom.report.charts.xy import Series, xy_chart
from metaloom.report.inputs import Inputs, read_table
from metaloom.report.sections.results import Results
from metaloom.report.words import SettingWords, with_interval
from metaloom.system.files import read_json
from metaloom.system.quantities import known, percent

MOST = 500  # points of a scatter


@dataclass(frozen=True)
class Diagram:
    """How sure the champion is against how often it is right, and the calibration error that sums it up."""

    title: str
    chart: Markup
    rows: list[tuple[str, str, str]]
    ece: str


@dataclass(frozen=True)
class Estimates:
    """How far estimates from support sets alone lie from the truth; shares."""

    tasks: int
    n_shot: int
    error: str
    bias: float
    coverage: str
    chart: Markup


@dataclass(frozen=True)
class Trust:
    """The section: how sure answers are, and how near estimates are to the truth."""

    setting: SettingWords
    diagrams: list[Diagram]
    estimates: Estimates | None


def trust(inputs: Inputs, results: Results, setting: SettingWords) -> Trust:
    """The champion's calibration in a setting, and the estimates of all tasks.

    Raises:
        MetaloomError: a table is absent or of another format; the message names its stage.
    """
    columns = ["learner", "setting", "temperature", "bin", "confidence", "accuracy", "share"]
    table = read_table(inputs.evaluation / "calibration.csv", "evaluate", columns)
    own = table[(table["learner"] == results.champion) & (table["setting"] == setting.name)]
    diagrams = []
    for temperature, title in (("before", "Without a temperature"), ("after", "As it is handed off")):
        bins = own[own["temperature"] == temperature]
        if len(bins):
            ece = percent(float((bins["share"] * (bins["confidence"] - bins["accuracy"]).abs()).sum()), 2)
            rows = list(bins[["confidence", "accuracy", "share"]].itertuples(index=False, name=None))
            diagrams.append(Diagram(title, _diagram(title, rows, ece), [_percents(row) for row in rows], ece))
    return Trust(setting, diagrams, _estimates(inputs))


def _percents(row: tuple[float, float, float]) -> tuple[str, str, str]:
    confidence, accuracy, share = row
    return percent(confidence), percent(accuracy), percent(share)


def _diagram(title: str, rows: list[tuple[float, float, float]], ece: str) -> Markup:
    points = [(confidence, accuracy) for confidence, accuracy, _ in rows]
    summary = (
        f"{title}: calibration error {ece}; from {percent(points[0][0])} sure and {percent(points[0][1])} right to "
        f"{percent(points[-1][0])} sure and {percent(points[-1][1])} right"
    )
    return _square(points, summary, "how sure", faint=False)


def _square(points: list[tuple[float, float]], summary: str, x_label: str, faint: bool) -> Markup:
    """Shares against shares, on the same scale; `faint` dots are many and not joined."""
    low = min(0.9, math.floor(10 * min(min(point) for point in points)) / 10)
    ticks = [(part, low + part * (1 - low)) for part in (0.0, 0.5, 1.0)]
    kind = "champion faint" if faint else "champion"
    return xy_chart(
        [Series("", [((x - low) / (1 - low), y) for x, y in points], kind, line=not faint)],
        [(part, percent(value, 0)) for part, value in ticks],
        [(value, percent(value, 0)) for _, value in ticks],
        summary,
        x_label=x_label,
        height=280,
        named=False,
        diagonal=True,
    )


def _estimates(inputs: Inputs) -> Estimates | None:
    """None where the data had too few examples to tell."""
    found = read_json(inputs.evaluation / "estimates.json", made_by="evaluate")
    table = read_table(inputs.evaluation / "estimates.parquet", "evaluate", ["estimate", "truth", "low95", "high95"])
    if not found.get("tasks") or not len(table):
        return None
    half = (found["high95"] - found["low95"]) / 2 if known(found["low95"]) else None
    error = with_interval(found["mean_absolute_error"], half)
    shown = table.iloc[:: max(1, math.ceil(len(table) / MOST))]
    points = list(zip(shown["estimate"].tolist(), shown["truth"].tolist(), strict=True))
    summary = f"Estimate against truth of {found['tasks']} tasks: mean absolute error {error}"
    chart = _square(points, summary, "estimated accuracy", faint=True)
    return Estimates(found["tasks"], found["n_shot"], error, found["bias"], percent(found["coverage"], 0), chart)
