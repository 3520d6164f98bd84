"""dvc.yaml is the only home of the paths that stages write to."""

from __future__ import annotations

import pytest

from metaloom.errors import MetaloomError
from metaloom.versioning.paths import Outputs

DAG = """\
stages:
  prepare: {cmd: a, outs: [made/dataset]}
  embed: {cmd: a, outs: [made/embedded]}
  split: {cmd: a, outs: [made/splits: {persist: true}]}
  train: {cmd: a, matrix: {method: [x]}, outs: ["made/models/${item.method}"]}
  evaluate: {cmd: a, outs: [made/evaluation], metrics: [numbers/figures.json: {cache: false}]}
  report: {cmd: b, outs: [page]}
artifacts:
  handoff: {path: made/bundle}
"""


def test_paths_are_those_of_dvc_yaml(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DAG)
    outputs = Outputs(tmp_path)
    folders = (outputs.dataset, outputs.embedded, outputs.splits, outputs.models, outputs.evaluation, outputs.bundle)
    assert folders == tuple(
        f"made/{name}" for name in ("dataset", "embedded", "splits", "models", "evaluation", "bundle")
    )
    assert (outputs.figures, outputs.headline) == ("made/evaluation/figures.json", "numbers/figures.json")
    assert (outputs.page, outputs.verdict) == ("page/index.html", "page/verdict.txt")


def test_the_page_stands_beside_the_verdict(tmp_path):
    """DVC knows of the verdict alone; in a project of an earlier version it knows of the folder."""
    (tmp_path / "dvc.yaml").write_text(DAG.replace("outs: [page]", "outs: [page/verdict.txt]"))
    outputs = Outputs(tmp_path)
    assert (outputs.page, outputs.verdict) == ("page/index.html", "page/verdict.txt")


def test_what_dvc_yaml_lacks_is_named(tmp_path):
    with pytest.raises(MetaloomError, match="dvc.yaml not found: run metaloom in the root"):
        Outputs(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(MetaloomError, match="dvc.yaml is no valid YAML"):
        Outputs(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {report: {cmd: a}}")
    with pytest.raises(MetaloomError, match="no stage report with outs: `git checkout dvc.yaml`"):
        assert Outputs(tmp_path).page
    with pytest.raises(MetaloomError, match="no artifact handoff"):
        assert Outputs(tmp_path).bundle
    assert Outputs(tmp_path).known("bundle") is None


def test_neither_outputs_nor_data_dvc_have_another_home(repo):
    texts = {path.name: path.read_text() for room in ("src", "flows") for path in (repo / room).rglob("*.py")}
    assert not [name for name, text in texts.items() if '"artifacts/' in text or '"metrics/evaluation' in text]
    assert [name for name, text in texts.items() if '"data.dvc"' in text] == ["provenance.py"]
