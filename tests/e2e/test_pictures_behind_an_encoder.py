"""The whole path behind a frozen encoder: all stages, a bundle of raw pictures, predictions without our code."""

from __future__ import annotations

import shutil
import sys

import pytest
from encoders import Tiny, write_encoder
from projects import locked_stages, make_project, metaloom, run_here

GIVEN = {"encoder.file": "tiny.onnx", "network.name": "linear", "methods": ["protonet"]}


@pytest.mark.slow
def test_pictures_behind_an_encoder_to_a_verified_bundle(tmp_path, shapes):
    root = make_project(tmp_path / "project", shapes, GIVEN)
    write_encoder(root / "tiny.onnx")
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, "dvc", "repro", "-q")
    bundle, picture = root / "artifacts/bundle", "data/domain0/class0/0.png"
    assert "verified" in run_here(root, sys.executable, str(bundle / "verify.py")).stdout
    said = metaloom(root, "predict", "artifacts/bundle", picture).stdout
    assert said == run_here(root, sys.executable, str(bundle / "example.py"), picture).stdout
    shutil.copytree(root / "data/domain9", root / "mine")
    assert "verified" in metaloom(root, "adapt", "--support", "mine", "--out", "adapted").stdout
    assert "data:image/png" in (root / "report/index.html").read_text()
    embedded = locked_stages(root)["embed"]["outs"]
    write_encoder(root / "tiny.onnx", Tiny(embed=10))
    run_here(root, sys.executable, "-m", "metaloom.pipeline", "embed")
    assert locked_stages(root)["embed"]["outs"] != embedded  # another file at the same place is seen
