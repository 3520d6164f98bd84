"""The whole path of texts: tables, all stages, a bundle that takes strings, predictions without metaloom's own code."""

from __future__ import annotations

import shutil
import sys

import pytest
from projects import make_project, metaloom, run_here
from texts import draw_texts


@pytest.mark.slow
def test_texts_from_tables_to_a_verified_bundle(tmp_path, shapes):
    root = make_project(
        tmp_path / "project", shapes, {"kind": "text", "network.name": "linear", "methods": ["protonet"]}
    )
    shutil.rmtree(root / "data")
    draw_texts(root / "data")
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, "dvc", "repro", "-q")
    assert "data:image/svg+xml" in (root / "report/index.html").read_text()
    bundle = root / "artifacts/bundle"
    assert "verified" in run_here(root, sys.executable, str(bundle / "verify.py")).stdout
    said = metaloom(root, "predict", "artifacts/bundle", "please open my window").stdout
    assert said == run_here(root, sys.executable, str(bundle / "example.py"), "please open my window").stdout
