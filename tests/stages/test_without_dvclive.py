"""Training does without DVCLive, which writes its curves: a bare machine with a GPU has neither it nor scmrepo."""

from __future__ import annotations

import ast
import sys

from metaloom.stages.one_network import _curves, _log


def test_no_module_needs_it_to_be_imported(repo):
    found = []
    for file in (repo / "src/metaloom").rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            found += [file for name in names if name.partition(".")[0] in ("dvclive", "scmrepo")]
    assert found == []


def test_without_it_there_are_no_curves_and_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dvclive.live", None)
    live = _curves(tmp_path / "curves")
    _log(live, {"step": 1, "loss": 1.0, "accuracy": 0.5, "nll": 1.0})
    assert live is None and not (tmp_path / "curves").exists()
    assert capsys.readouterr().out.startswith("no curves of the training are written: ")
