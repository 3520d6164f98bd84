"""What `metaloom compare` says where little can be compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import typer
from projects import run_here

from metaloom.cli.compare import _conclude, lines
from metaloom.errors import FAILED, MetaloomError
from metaloom.evaluation.drift import DataChange
from metaloom.system.files import write_json
from metaloom.versioning.comparison import Comparison, compare
from metaloom.versioning.comparison import figures as of_both
from metaloom.versioning.revisions import refuse_unrun


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


def test_rows_that_are_the_same_are_counted_not_shown():
    figures = [figure(0.9, 0.8), figure(0.9, 0.9) | {"setting": "5w5s"}, figure(0.9, 0.9) | {"learner": "svm"}]
    shown = list(lines(Comparison(figures=figures, missing=["HEAD has no x"])))
    assert "protonet  5w1s              90.0 → 80.0" in shown and "2 more figures are the same" in shown
    assert not any("90.0 → 90.0" in line for line in shown)
    change = DataChange({}, {}, pd.DataFrame(), [])
    assert list(lines(Comparison(change=change, figures=figures[1:])))[-1] == "figures   the same"


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


FIGURE = {"accuracy": 0.9, "ci95": 0.01, "low95": 0.89, "high95": 0.91, "episodes": 100}


def test_intervals_that_do_not_overlap_are_apart():
    better = {**FIGURE, "accuracy": 0.95, "low95": 0.94, "high95": 0.96}
    (row,) = of_both({"protonet": {"5w1s": FIGURE}}, {"protonet": {"5w1s": better}})
    assert (row["before"], row["now"], row["ci_now"], row["apart"]) == (0.9, 0.95, 0.01, True)
    alone, other = of_both({"protonet": {"5w1s": FIGURE}}, {"maml": {"5w1s": FIGURE}})
    assert (alone["now"], other["before"], alone["apart"]) == (None, None, False)


def test_a_version_of_which_git_alone_is_left_has_its_headline_and_an_earlier_one_all(repo, tmp_path):
    """Earlier versions gave git every figure; now it has the champion's accuracies, and a line says what is missing."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(Path(repo, name), tmp_path)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        run_here(tmp_path, *command)
    both = {"protonet": {"5w1s": FIGURE}, "svm": {"5w1s": FIGURE | {"accuracy": 0.5}}}
    for kept in (both, {"champion": "protonet", "accuracy": {"5w1s": 0.95}}):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        write_json(tmp_path / "metrics/evaluation.json", kept)
        run_here(tmp_path, "git", "add", "-A")
        run_here(tmp_path, "git", "commit", "-qm", "figures")
    found = compare(tmp_path, "HEAD~1", "HEAD")
    pairs = [(each["learner"], each["before"], each["now"]) for each in found.figures]
    assert pairs == [("protonet", 0.9, 0.95), ("svm", 0.5, None)]
    reason = "figures other than the champion's: HEAD has no artifacts/evaluation/figures.json: `metaloom run` there"
    assert found.missing[-1].startswith(reason)
    assert "protonet  5w1s              90.0 ± 1.0 → 95.0" in list(lines(found))


def test_where_nothing_was_made_yet_it_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_here(tmp_path, "git", "init", "-q")
    run_here(tmp_path, "git", "commit", "-q", "--allow-empty", "-m", "begun")
    with pytest.raises(MetaloomError, match=r"made nothing yet at HEAD \(no dvc.lock\); `git log dvc.lock` lists"):
        refuse_unrun(tmp_path, "HEAD")
    with pytest.raises(MetaloomError, match="made nothing yet in the working tree"):
        refuse_unrun(tmp_path, "workspace")
    refuse_unrun(tmp_path, "nowhere")  # which is said with more knowledge
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  prepare: {}\n")
    refuse_unrun(tmp_path, "workspace")
    run_here(tmp_path, "git", "add", "-A")
    run_here(tmp_path, "git", "commit", "-q", "-m", "run")
    refuse_unrun(tmp_path, "HEAD")
    with pytest.raises(typer.Exit) as ended:
        _conclude(Comparison())
    assert ended.value.exit_code == FAILED
