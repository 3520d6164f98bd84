"""Where the classes lie in the champion's embedding, which it confuses, and how near those of the test are to
training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from metaloom.kinds import Shown
from metaloom.report.charts.marks import draw_line, draw_text, svg
from metaloom.report.inputs import Inputs, fitting_rows, read_table
from metaloom.report.words import class_title
from metaloom.system.files import read_json
from metaloom.system.quantities import percent

THUMBNAILS = 150  # of the map
BUDGET = 400_000  # characters of the map's thumbnails
PAIRS = 12
SHOWN = 4  # nearest and farthest classes
BINS = 24


@dataclass(frozen=True)
class Place:
    """One class on the map; x and y in per cent, `row` None for a dot."""

    name: str
    x: float
    y: float
    row: int | None


@dataclass(frozen=True)
class Pair:
    """Two classes side by side, with a word on them."""

    one: str
    other: str
    row_one: int
    row_other: int
    text: str


@dataclass(frozen=True)
class Classes:
    """The section: where classes lie, and which are confused or far from training."""

    places: list[Place]
    left_off: int
    confused: list[Pair]
    chart: Markup | None
    nearest: list[Pair]
    farthest: list[Pair]
    median: str


def classes(inputs: Inputs, thumbnails: Shown) -> Classes:
    """Read the map, the confusions and the distances.

    Raises:
        MetaloomError: a file is absent, of another format, or of another data set; the message names the stage.
    """
    folder = inputs.evaluation
    table = read_table(folder / "map.parquet", "evaluate", ["class", "split", "row", "x", "y"])
    near = read_table(folder / "nearness.parquet", "evaluate", ["class", "row", "nearest", "nearest_row", "relative"])
    confused = read_json(folder / "confusions.json", made_by="evaluate")
    rows = [*table["row"], *near["row"], *near["nearest_row"], *(each["row_true"] for each in confused)]
    fitting_rows(folder, rows, thumbnails)
    places, left_off = _places(table, thumbnails)
    ranked = near[near["relative"].notna()].sort_values("relative")
    return Classes(
        places=places,
        left_off=left_off,
        confused=[_confused(each) for each in confused[:PAIRS]],
        chart=_histogram(ranked["relative"].to_numpy()) if len(ranked) else None,
        nearest=[_near(row) for row in ranked.head(SHOWN).to_dict("records")],
        farthest=[_near(row) for row in ranked.tail(SHOWN)[::-1].to_dict("records")],
        median=f"{ranked['relative'].median():.2f}" if len(ranked) else "",
    )


def _places(table: pd.DataFrame, thumbnails: Shown) -> tuple[list[Place], int]:
    """Training classes as dots; as many test classes as there is room for as thumbnails, evenly spread."""
    of_test = table[table["split"] == "test"]
    kept = of_test.iloc[np.unique(np.linspace(0, len(of_test) - 1, min(THUMBNAILS, len(of_test))).astype(int))]
    while len(kept) > 1 and sum(len(thumbnails.uri(row)) for row in kept["row"].tolist()) > BUDGET:
        kept = kept.iloc[::2]
    dots = table[table["split"] == "train"]
    places = [_place(row, shown) for part, shown in ((dots, False), (kept, True)) for row in part.to_dict("records")]
    return places, len(of_test) - len(kept)


def _place(row: dict[str, Any], shown: bool) -> Place:
    x, y = 3 + 94 * row["x"], 4 + 92 * (1 - row["y"])
    return Place(class_title(str(row["class"])), x, y, int(row["row"]) if shown else None)


def _confused(raw: dict[str, Any]) -> Pair:
    text = f"{raw['wrong']} of {raw['asked']} times"
    return Pair(class_title(raw["true"]), class_title(raw["said"]), raw["row_true"], raw["row_said"], text)


def _near(row: dict[str, Any]) -> Pair:
    names = class_title(str(row["class"])), class_title(str(row["nearest"]))
    return Pair(*names, int(row["row"]), int(row["nearest_row"]), f"{row['relative']:.2f}")


def _histogram(values: np.ndarray) -> Markup:
    """How many test classes lie how far from the nearest training class."""
    high = max(2.0, float(np.ceil(values.max())))
    counts, edges = np.histogram(values, BINS, (0, high))
    parts = []
    for count, left, right in zip(counts.tolist(), edges, edges[1:], strict=False):
        tall = 90 * count / max(counts)
        bar = '<rect class="part test" x="{:.2f}%" y="{:.1f}" width="{:.2f}%" height="{:.1f}" />'
        parts.append(Markup(bar).format(100 * left / high, 100 - tall, 100 * (right - left) / high - 0.3, tall))
    parts += [draw_line(100 / high, 4, 100 / high, 100, "chance"), draw_line(0, 100, 100, 100, "grid")]
    parts.append(draw_text(100 / high, 116, "1", "tick", "middle"))
    parts += [draw_text(0, 116, "0", "tick"), draw_text(100, 116, f"{high:.0f}", "tick", "end")]
    within = percent(float((values <= 1).mean()), 0)
    summary = f"Distances of {len(values)} test classes: median {np.median(values):.2f}, {within} at most 1"
    return svg(parts, 124, summary, "histogram")
