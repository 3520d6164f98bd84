"""`metaloom encoder add`: checked, made one file, and used from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from encoders import write_encoder
from text_encoders import write_text_encoder, write_tokenizer

from metaloom.cli import encoder
from metaloom.errors import MetaloomError
from metaloom.system.files import sha256


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((repo / name).read_text())
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encoder, "go_to_root", lambda: lambda path: path)
    return tmp_path


def test_a_file_and_its_weights_become_one(here: Path, capsys: pytest.CaptureFixture[str]):
    write_encoder(here / "one.onnx")
    outside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(here / "one.onnx"), here / "mine.onnx", **outside)
    encoder.add(Path("mine.onnx"))
    said = capsys.readouterr().out
    assert f"12 numbers each  SHA-256 {sha256('encoders/mine.onnx')}" in said
    assert "--set encoder.file=encoders/mine.onnx" in said
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    both = (here / "one.onnx").read_bytes(), (here / "encoders/mine.onnx").read_bytes()
    one, mine = (onnxruntime.InferenceSession(each).run(["out"], {"image": x})[0] for each in both)
    np.testing.assert_allclose(np.asarray(mine), np.asarray(one), atol=1e-6)
    with pytest.raises(MetaloomError, match=r"encoders/mine.onnx is there already: --replace takes its place"):
        encoder.add(Path("mine.onnx"))
    encoder.add(Path("one.onnx"), name="mine", replace=True)
    with pytest.raises(MetaloomError, match=r"--name ../mine: give a name without a folder"):
        encoder.add(Path("one.onnx"), name="../mine")


def test_what_is_refused_leaves_nothing(here: Path):
    (here / "no.onnx").write_text("no")
    with pytest.raises(MetaloomError, match=r"no.onnx is no ONNX file"):
        encoder.add(Path("no.onnx"))
    assert not list((here / "encoders").iterdir())


def test_an_encoder_of_texts_brings_its_tokenizer(here: Path, capsys: pytest.CaptureFixture[str]):
    write_text_encoder(here / "mine.onnx")
    with pytest.raises(MetaloomError, match="one of texts has ids and a mask, of whole numbers, and its tokenizer"):
        encoder.add(Path("mine.onnx"))
    given = write_tokenizer(here / "words.json", longest=32)
    encoder.add(Path("mine.onnx"), tokenizer=given)
    assert "12 numbers each" in capsys.readouterr().out
    assert (here / "encoders/mine.tokenizer.json").read_bytes() == given.read_bytes()
    with pytest.raises(MetaloomError, match=r"absent.json not found: encoder.tokenizer names the tokenizer.json of"):
        encoder.add(Path("mine.onnx"), name="other", tokenizer=Path("absent.json"))
    write_encoder(here / "one.onnx")
    with pytest.raises(MetaloomError, match=r"has the inputs image .* float: an encoder of texts has ids, a mask"):
        encoder.add(Path("one.onnx"), tokenizer=given)
    assert sorted(path.name for path in (here / "encoders").iterdir()) == ["mine.onnx", "mine.tokenizer.json"]
