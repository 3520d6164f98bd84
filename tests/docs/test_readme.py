"""The README is short, and its figures are those that were measured."""

from __future__ import annotations

import json
import re

from PIL import Image
from shown import blocks

from metaloom.evaluation.headline import scores_of

WORDS, BYTES = 700, 150_000


def test_it_is_short(readme):
    assert len(readme.split()) <= WORDS


def test_its_picture_is_small(repo):
    assert (repo / "docs/report.png").stat().st_size <= BYTES
    with Image.open(repo / "docs/report.png") as picture:
        assert picture.width >= 1000


def test_the_ending_of_a_run_is_the_real_one(repo, readme, monkeypatch):
    """Of the table git has the champion's accuracies; the rest is known where a run has left it."""
    monkeypatch.syspath_prepend(str(repo / "docs"))
    import refresh

    (shown,) = blocks(readme, "text")
    known = scores_of(json.loads((repo / "metrics/evaluation.json").read_text(encoding="utf-8")), "")
    for row in shown.splitlines():
        if own := known.get(row.split(" ")[0]):
            accuracies = [f"{100 * own[setting]['accuracy']:.1f}" for setting in refresh.SETTINGS]
            cells = [cell.split(" ")[0] for cell in re.split(" {2,}", row)[1:]]
            assert cells == [*accuracies, "…"], "run python docs/refresh.py"
    if refresh.FIGURES.is_file():
        assert shown == refresh.ending(), "run python docs/refresh.py"


def test_its_results_are_those_of_the_benchmarks(repo, readme):
    results = (repo / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
    rows = [row for row in readme.splitlines() if row.startswith("|") and "±" in row]
    assert len(rows) == 4
    for row in rows:
        figures = " | ".join(re.findall(r"[\d.]+ ± [\d.]+", row))
        assert figures in results, row


def test_the_factors_of_speed_are_the_least_and_the_most_measured(repo, readme):
    results = (repo / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
    table = results.split("× the fastest peer", 1)[1].split("\n\n", 1)[0]
    factors = [float(row.split("|")[4]) for row in table.splitlines() if "| metaloom |" in row and "turns" not in row]
    least, most = re.findall(r"Training steps are ([\d.]+) to ([\d.]+) times", readme)[0]
    assert (float(least), float(most)) == (round(min(factors), 1), round(max(factors), 1))
