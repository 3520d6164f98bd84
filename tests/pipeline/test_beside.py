"""A file that a stage writes beside its outputs, which DVC does not hash."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from projects import REPO, run_here

from metaloom.pipeline.stages import StageExit, due_stages, reproduce

DAG = """\
stages:
  evaluate:
    cmd: cp in.txt figures.txt
    deps: [in.txt]
    outs: [figures.txt]
  report:
    cmd: >-
      mkdir -p report && cp figures.txt report/verdict.txt &&
      md5sum figures.txt > report/index.html && date +%N >> report/index.html
    deps: [figures.txt]
    outs: [report/verdict.txt]
    meta: {beside: report/index.html}
"""


def go(root: Path) -> None:
    assert [reproduce(root, name) for name in ("evaluate", "report")].count(StageExit.RAN)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(DAG)
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "in.txt").write_text("one")
    run_here(tmp_path, "git", "init", "-q")
    run_here(tmp_path, "dvc", "init", "-q")
    go(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_page_that_is_not_there_is_made_again_and_leaves_dvc_lock_as_it_was(root, capfd):
    page, lock = root / "report/index.html", (root / "dvc.lock").read_bytes()
    assert due_stages(root) == [] and reproduce(root, "report") is StageExit.CURRENT
    page.unlink()
    assert due_stages(root) == ["report"]
    assert reproduce(root, "report") is StageExit.RAN and page.is_file()
    assert "report/index.html is not there: report makes it again\n" in capfd.readouterr().out
    assert (root / "dvc.lock").read_bytes() == lock
    page.unlink()
    (root / "report/verdict.txt").unlink()  # as in a clone: DVC would take it from its cache
    assert reproduce(root, "report") is StageExit.RAN and page.is_file()


@pytest.mark.slow
def test_a_page_of_other_results_is_made_again(root, capfd):
    """As after a run with other settings, of which DVC takes the outputs back from its run cache."""
    page, first = root / "report/index.html", (root / "report/index.html").read_text()
    (root / "in.txt").write_text("two")
    go(root)
    other = page.read_text()
    (root / "in.txt").write_text("one")
    assert reproduce(root, "evaluate") is StageExit.RESTORED
    assert reproduce(root, "report") is StageExit.RAN
    assert "report/index.html is of other results: report makes it again\n" in capfd.readouterr().out
    assert (root / "report/verdict.txt").read_text() == "one" and due_stages(root) == []
    page.write_text(other)
    assert due_stages(root) == ["report"]
    page.write_text(first)
    assert due_stages(root) == []


def test_the_report_is_such_a_stage():
    report = yaml.safe_load((REPO / "dvc.yaml").read_text())["stages"]["report"]
    assert (report["outs"], report["meta"]) == (["report/verdict.txt"], {"beside": "report/index.html"})
