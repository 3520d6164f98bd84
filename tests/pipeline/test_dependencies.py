"""dvc.yaml's stages depend on what their modules import."""

from __future__ import annotations

import difflib

from metaloom.pipeline import dependencies
from metaloom.pipeline.dependencies import derived

DAG = """\
stages:
  # a comment
  split:
    cmd: python -m metaloom.stages.split artifacts/dataset artifacts/splits
    deps: [src/metaloom/gone, artifacts/dataset]
    params: [seed]
  own:
    cmd: python own.py
    deps: [src/metaloom/gone]

  report:
    cmd: >-
      python -m metaloom.stages.report
      metrics
    deps:
      - metrics
      - src/metaloom/gone/a-b.py
    outs: [report]
plots: []
"""


def test_dvc_yaml_names_what_its_stages_import(repo):
    text = (repo / "dvc.yaml").read_text()
    now, then = text.splitlines(), derived(text).splitlines()
    lines = "\n".join(difflib.unified_diff(now, then, "now", "derived", lineterm=""))
    assert not lines, f"`python -m metaloom.pipeline.dependencies` writes into dvc.yaml what it should say:\n{lines}"


def test_only_our_files_in_deps_are_replaced():
    after = derived(DAG)
    assert "    deps: [src/metaloom/gone]\n\n" in after  # of a stage that is none of ours
    assert after.count("gone") == 1
    assert "      - artifacts/dataset\n      - src/metaloom/config\n" in after
    assert "    deps:\n      - metrics\n      - src/metaloom/config\n" in after
    assert "      - src/metaloom/system/rounding.py\n    outs: [report]\nplots: []\n" in after
    assert "  # a comment\n" in after
    assert derived(after) == after


def test_the_command_writes_it_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(DAG)
    dependencies.main()
    assert "follow the imports again" in capsys.readouterr().out
    assert "src/metaloom/stages/split.py" in (tmp_path / "dvc.yaml").read_text()
    dependencies.main()
    assert "already" in capsys.readouterr().out
