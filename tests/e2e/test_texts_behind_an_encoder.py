"""The whole path of texts behind an encoder: all stages with a contender that does without, and a bundle."""

from __future__ import annotations

import shutil
import sys

import pytest
from projects import locked_stages, make_project, metaloom, run_here
from text_encoders import SET, write_text_encoder, write_tokenizer
from texts import draw_texts

GIVEN = SET | {"network.name": "identity", "contenders": ["no_encoder"], "methods": ["protonet"]}


@pytest.mark.slow
def test_texts_behind_an_encoder_to_a_verified_bundle(tmp_path, shapes):
    root = make_project(tmp_path / "project", shapes, GIVEN)
    shutil.rmtree(root / "data")
    draw_texts(root / "data")
    write_text_encoder(root / "tiny.onnx")
    write_tokenizer(root / "tokenizer.json")
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, "dvc", "repro", "-q")
    bundle, text = root / "artifacts/bundle", "please open my window"
    assert "verified" in run_here(root, sys.executable, str(bundle / "verify.py")).stdout
    said = metaloom(root, "predict", "artifacts/bundle", text).stdout
    assert said == run_here(root, sys.executable, str(bundle / "example.py"), text).stdout
    page = (root / "report/index.html").read_text()
    assert "The frozen encoder tiny (12 numbers) has seen each text" in page and "validation chose " in page
    embedded = locked_stages(root)["embed"]["outs"]
    write_tokenizer(root / "tokenizer.json", longest=9)
    run_here(root, sys.executable, "-m", "metaloom.pipeline", "embed")
    assert locked_stages(root)["embed"]["outs"] != embedded  # another tokenizer at the same place is seen
