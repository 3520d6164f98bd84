"""What `metaloom compare` says where little can be compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from projects import run_here

from metaloom.cli.compare import lines
from metaloom.versioning.comparison import Comparison, compare


def figure(before: float | None, now: float | None) -> dict:
    named = {"learner": "protonet", "setting": "5w1s", "before": before, "now": now}
    return named | {"ci_before": None, "ci_now": None, "apart": False}


@pytest.mark.parametrize("figures", [[], [figure(0.9, 0.9)], [figure(None, 0.9)]])
def test_where_nothing_is_comparable_one_line_says_what_would_be(figures):
    """Figures that are the same belong to one commit, which is in the working tree too."""
    found = Comparison(figures=figures, missing=["HEAD has no x: run there", "the working tree has no x: run"])
    assert list(lines(found)) == ["nothing to compare: HEAD has no x: run there; the working tree has no x: run"]


def test_other_figures_are_shown_without_the_data():
    shown = list(lines(Comparison(figures=[figure(0.9, 0.8)], missing=["HEAD has no x"])))
    assert "protonet  5w1s              90.0 → 80.0" in shown and shown[-1] == "not shown HEAD has no x"
    assert "(whether these are the same episodes cannot be told)" in shown


def test_figures_that_one_side_lacks_are_not_counted_among_those_that_overlap():
    alone = [figure(0.9, 0.8) | {"learner": name, "apart": False} for name in ("svm", "forest")]
    settings = {"train.n_shot": {"old": 1, "new": 2}, "seed": {"old": 0, "new": 1}}
    shown = list(lines(Comparison(figures=[alone[0], alone[1] | {"before": None}], settings=settings)))
    assert "1 more figure of single-task learners, where intervals overlap: --json" in shown
    assert shown[-2:] == ["setting   seed: 0 → 1", "setting   train.n_shot: 1 → 2"]


def test_before_the_first_run_each_side_says_what_it_lacks(repo, tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(Path(repo, name), tmp_path)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "x"]):
        run_here(tmp_path, *command)
    found = compare(tmp_path, "HEAD", "workspace")
    assert found.nothing and found.missing == [
        "HEAD has no artifacts/dataset/items.parquet: `metaloom run` there, and commit dvc.lock, data.dvc and metrics/",
        "the working tree has no artifacts/dataset/items.parquet: `metaloom run` makes it",
    ]
