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
  evaluate: {cmd: a, outs: [evaluation], metrics: [metrics/evaluation.json: {cache: false}]}
  report: {cmd: b, outs: [report/verdict.txt]}
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
    for folder in ("evaluation", "report", "artifacts/bundle"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "evaluation/figures.json").write_text(json.dumps(SCORES))
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


def test_a_table_that_is_too_wide_leaves_out_tasks_within_one_domain_first():
    settings = [f"{setting}{kind}" for setting in ("5w1s", "5w5s", "20w1s", "20w5s") for kind in ("", "_domain")]
    score = {"accuracy": 0.8371, "ci95": 0.0094, "episodes": 200}
    summary = RunSummary("", (), 1.0, {"neighbour_embedded": dict.fromkeys(settings, score)}, {})
    lines = as_text(summary).splitlines()
    assert max(map(len, lines[:2])) <= 80 and lines[0].split() == ["accuracy,", "%", "5w1s", "5w5s", "20w1s", "20w5s"]
    assert lines[1].count("83.7 ± 0.9") == 4
    left = "5w1s, domain; 5w5s, domain; 20w1s, domain; 20w5s, domain"
    assert lines[2] == f"not shown, as 80 columns are too few: {left} (the report has them)"
    assert as_text(summary, 135).splitlines()[1].count("83.7 ± 0.9") == 8
    assert as_text(summary, 10).splitlines()[0].split() == ["accuracy,", "%", "5w1s"]


def made_up_run(root: Path, scores: dict) -> str:
    (root / "dvc.yaml").write_text(DAG)
    write_json(root / "evaluation/figures.json", scores)
    if not (root / "metrics").exists():
        write_json(root / "metrics/evaluation.json", scores)  # as earlier versions wrote it
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
    assert last.startswith("figures 1 of 6 differ") and last.endswith("scratch 5w1s accuracy 0.41 → 0.5")
    assert "- figures: 1 of 6 differ" in as_markdown(summarise(tmp_path, "data", [], 1.0))


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


def test_a_part_of_a_run_shows_nothing_of_an_earlier_one():
    whole = RunSummary(
        "data/ is v", (StageRun("e", "Ran", 1.0),), 1.0, SCORES, {"report": "report"}, "same", (), "Yes."
    )
    assert as_text(whole.of_a_part()).splitlines() == ["data    v", "stages  1 ran (e 1.0 s)", "time    1.0 s"]


def test_git_s_headline_is_compared_where_nothing_else_is_known(tmp_path):
    """Its figures have no interval: one is beyond ours where it lies outside."""
    own = SCORES["protonet"]["5w1s"] | {"low95": 0.8277, "high95": 0.8465, "ece": 0.02, "worst_decile": 0.6}
    scores = {"protonet": {"5w1s": own}, "scratch": SCORES["scratch"]}
    run_here(tmp_path, "git", "init", "-q")
    for accuracy, said in (
        (0.8371, "the committed ones"),
        (0.8372, "the committed ones, to rounding"),
        (
            0.84,
            "1 of 2 differ from the committed ones, all within their intervals: protonet 5w1s accuracy 0.84 → 0.8371",
        ),
        (0.9, "1 of 2 differ from the committed ones, 1 of them beyond their intervals: protonet 5w1s accuracy 0.9"),
    ):
        kept = {"champion": "protonet", "accuracy": {"5w1s": accuracy}, "nll": 0.5}
        (tmp_path / "metrics").mkdir(exist_ok=True)
        write_json(tmp_path / "metrics/evaluation.json", kept)
        run_here(tmp_path, "git", "add", "metrics")
        run_here(tmp_path, "git", "commit", "-qm", "figures")
        assert made_up_run(tmp_path, scores).splitlines()[-1].startswith(f"figures {said}")


def test_all_committed_figures_are_compared_where_the_cache_has_them(tmp_path, monkeypatch):
    run_here(tmp_path, "git", "init", "-q")
    write_json(tmp_path / "metrics/evaluation.json", {"champion": "protonet", "accuracy": {"5w1s": 0.8371}})
    run_here(tmp_path, "git", "add", "metrics")
    run_here(tmp_path, "git", "commit", "-qm", "figures")
    changed = copy.deepcopy(SCORES)
    changed["scratch"]["5w1s"]["accuracy"] = 0.5
    monkeypatch.setattr("metaloom.pipeline.summary.committed_file", lambda *_: json.dumps(changed).encode())
    assert made_up_run(tmp_path, SCORES).splitlines()[-1].startswith("figures 1 of 6 differ from the committed ones")
