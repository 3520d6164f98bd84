from __future__ import annotations

import json

from metaloom.pipeline.summary import StageRun, as_markdown, as_text, summarise

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
    ]
    markdown = as_markdown(summary)
    assert "| protonet | 83.7 ± 0.9 | 70.0 ± 1.2 |" in markdown
    assert "| train@maml | Ran | 61 s |" in markdown
    assert "- bundle: `artifacts/bundle`" in markdown


def test_what_is_not_there_is_left_out(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DAG)
    lines = as_text(summarise(tmp_path, "data/ is version 1, unchanged", [StageRun("a", "Cached", 0.1)], 1.0))
    assert lines.splitlines() == [
        "data    version 1, unchanged",
        "stages  everything was cached (1 stages)",
        "time    1.0 s",
    ]
