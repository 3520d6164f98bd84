from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from projects import run_here

from metaloom.pipeline.summary import RunSummary, StageRun, as_markdown, as_text, summarise
from metaloom.system.files import write_json

DAG = """\
stages:
  evaluate: {cmd: a, metrics: [metrics/evaluation.json: {cache: false}]}
  report: {cmd: b, outs: [report]}
artifacts:
  handoff: {path: artifacts/bundle}
"""
SCORES = {
    "protonet": {
        "5w1s": {"accuracy": 0.8371, "ci95": 0.0094, "nll": 0.5, "episodes": 200},
        "5w1s_domain": {"accuracy": 0.7, "ci95": 0.012, "nll": 0.9, "episodes": 200},
    },
    "scratch": {"5w1s": {"accuracy": 0.41, "ci95": 0.02, "nll": 2.5, "episodes": 30, "failed": 3}},
}


def test_summary(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DAG)
    for folder in ("metrics", "report", "artifacts/bundle"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "metrics/evaluation.json").write_text(json.dumps(SCORES))
    (tmp_path / "report/index.html").touch()
    (tmp_path / "report/verdict.txt").write_text("It is worth it.\n")
    stages = [
        StageRun("prepare", "Cached", 0.02),
        StageRun("train@maml", "Ran", 61.4),
        StageRun("e", "Ran", 3.2),
    ]
    summary = summarise(tmp_path, "data/ is version 41ab3f20, unchanged", stages, 125.3)

    assert as_text(summary).splitlines() == [
        "accuracy, %  5w1s                   5w1s, domain",
        "protonet     83.7 ± 0.9             70.0 ± 1.2",
        "scratch      41.0 ± 2.0 (3 failed)  –",
        "",
        "report  report/index.html",
        "bundle  artifacts/bundle",
        "data    version 41ab3f20, unchanged",
        "stages  2 ran (train@maml 61 s, e 3.2 s), 1 cached",
        "time    2 min 5 s",
        "",
        "It is worth it.",
    ]
    markdown = as_markdown(summary)
    assert "| protonet | 83.7 ± 0.9 | 70.0 ± 1.2 |" in markdown
    assert "| train@maml | Ran | 61 s |" in markdown
    assert "- bundle: artifacts/bundle\n" in markdown


def test_what_was_fitted_and_then_the_verdict_end_the_summary():
    summary = RunSummary(
        "", (), 1.0, SCORES, {}, fitted=("episodes: 3 ways", "export: 2 shots"), verdict="It is worth it."
    )
    assert as_text(summary).splitlines()[-4:] == [
        "fitted  episodes: 3 ways",
        "        export: 2 shots",
        "",
        "It is worth it.",
    ]
    assert "- fitted: export: 2 shots" in as_markdown(summary) and "It is worth it.\n" in as_markdown(summary)


def made_up_run(root: Path, scores: dict) -> str:
    (root / "dvc.yaml").write_text(DAG)
    (root / "metrics").mkdir(exist_ok=True)
    write_json(root / "metrics/evaluation.json", scores)
    return as_text(summarise(root, "data/ is version 1, unchanged", [StageRun("a", "Ran", 1.0)], 1.0))


def test_the_last_line_says_how_the_figures_compare_with_the_commit(tmp_path):
    assert made_up_run(tmp_path, SCORES).splitlines()[-1] == "time    1.0 s"  # there is no repository
    run_here(tmp_path, "git", "init", "-q")
    assert made_up_run(tmp_path, SCORES).splitlines()[-1] == "time    1.0 s"  # nor a commit
    run_here(tmp_path, "git", "add", "metrics")
    run_here(tmp_path, "git", "commit", "-qm", "figures")
    assert made_up_run(tmp_path, SCORES).splitlines()[-1] == "figures the committed ones"
    run_here(tmp_path, "git", "mv", "metrics/evaluation.json", "elsewhere.json")
    changed = copy.deepcopy(SCORES)
    changed["protonet"]["5w1s"]["accuracy"] = 0.8374
    assert made_up_run(tmp_path, changed).splitlines()[-1] == "figures the committed ones, to rounding"
    changed["scratch"]["5w1s"]["accuracy"] = 0.5
    last = made_up_run(tmp_path, changed).splitlines()[-1]
    assert last.startswith("figures 1 of 12 differ") and last.endswith("scratch 5w1s accuracy 0.41 → 0.5")
    assert "- figures: 1 of 12 differ" in as_markdown(summarise(tmp_path, "data", [], 1.0))


def test_figures_of_other_data_are_not_compared(tmp_path):
    run_here(tmp_path, "git", "init", "-q")
    made_up_run(tmp_path, SCORES)
    (tmp_path / "data.dvc").write_text("md5: one")
    run_here(tmp_path, "git", "add", "metrics", "data.dvc")
    run_here(tmp_path, "git", "commit", "-qm", "figures")
    assert made_up_run(tmp_path, SCORES).splitlines()[-1] == "figures the committed ones"
    (tmp_path / "data.dvc").write_text("md5: another")
    assert made_up_run(tmp_path, SCORES).splitlines()[-1] == "figures of other data than the committed ones"


def test_committed_figures_of_another_form_are_not_compared(tmp_path):
    run_here(tmp_path, "git", "init", "-q")
    made_up_run(tmp_path, SCORES)
    (tmp_path / "metrics/evaluation.json").write_text('{"protonet": [0.8]}')
    run_here(tmp_path, "git", "add", "metrics")
    run_here(tmp_path, "git", "commit", "-qm", "figures")
    last = made_up_run(tmp_path, SCORES).splitlines()[-1]
    assert last == "figures not comparable: metrics/evaluation.json has another form in the commit"


def test_what_is_not_there_is_left_out(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DAG)
    lines = as_text(summarise(tmp_path, "data/ is version 1, unchanged", [StageRun("a", "Cached", 0.1)], 1.0))
    assert lines.splitlines() == [
        "data    version 1, unchanged",
        "stages  everything was cached (1 stage)",
        "time    1.0 s",
    ]


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_a_figure_without_an_interval_stands_alone(nothing):
    scores = {"scratch": {"5w1s": {"accuracy": 0.41, "ci95": nothing, "episodes": 3}}}
    assert as_text(RunSummary("", (), 1.0, scores, {})).splitlines()[1] == "scratch      41.0"
