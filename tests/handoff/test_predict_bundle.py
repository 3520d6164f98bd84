from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from metaloom.cli.app import app
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.predict import predict
from metaloom.kinds.pictures.read import decode

COMMAND = """
import sys
from pathlib import Path
from metaloom.cli.bundle import predict
predict(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]], json_=True)
heavy = {"torch", "pandas", "onnx", "scipy", "sklearn", "prefect", "dvc"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_a_file_that_cannot_be_read_leaves_the_others_their_answers(bundle: Path, shapes: Path, tmp_path: Path):
    files = sorted((shapes / "domain0").rglob("*.png"))[:4]
    cut = tmp_path / "cut.png"
    cut.write_bytes(files[0].read_bytes()[:60])
    done = CliRunner().invoke(app, ["predict", str(bundle), str(files[0]), str(cut), *map(str, files[1:])])
    assert done.exit_code == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(file) for file in files]
    (error,) = [line for line in done.stderr.splitlines() if "answers under 50%" not in line]
    assert error.startswith(f"error: {cut} is damaged")
    with pytest.raises(MetaloomError, match=r"cut.png is damaged"):
        predict(bundle, [files[0], cut])


def test_predictions_are_the_graphs_own(bundle: Path, shapes: Path):
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    labels = json.loads((bundle / "labels.json").read_text())
    files = sorted((shapes / "domain0").rglob("*.png"))[::5]
    for file, found in zip(files, predict(bundle, files), strict=True):
        expected = session.run(None, {"examples": decode(file.read_bytes(), 1)[None]})[0][0]
        assert found.example == str(file) and found.label == labels[expected.argmax()]
        assert [found.probabilities[label] for label in labels] == pytest.approx(expected.tolist())
        assert list(found.probabilities.values()) == sorted(expected.tolist(), reverse=True)


def test_predict_starts_without_torch(bundle: Path, shapes: Path):
    files = sorted((shapes / "domain0").rglob("*.png"))[:2]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(bundle), *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [each["example"] for each in answers] == [str(file) for file in files]
    assert all(sum(each["probabilities"].values()) == pytest.approx(1, abs=1e-5) for each in answers)
    assert all(each["probability"] == each["probabilities"][each["label"]] for each in answers)


def test_pictures_of_every_kind(bundle: Path, tmp_path: Path):
    grey = np.random.default_rng(0).integers(0, 256, (40, 70), dtype=np.uint8)
    clear = np.dstack([np.zeros((40, 70, 3), np.uint8), np.zeros((40, 70), np.uint8)])  # invisible black
    files = [
        save(tmp_path / "one_pixel.png", grey[:1, :1]),
        save(tmp_path / "thin.png", grey[:1]),
        save(tmp_path / "colour.jpg", np.dstack([grey] * 3)),
        save(tmp_path / "sixteen.png", grey.astype(np.uint16) * 257),
        save(tmp_path / "eight.png", grey),
        save(tmp_path / "clear.png", clear),
        save(tmp_path / "white.png", np.full((40, 70), 255, np.uint8)),
    ]
    by_name = {Path(each.example).stem: each.probabilities for each in predict(bundle, files)}
    assert by_name["sixteen"] == by_name["eight"]
    assert by_name["clear"] == by_name["white"]
    assert all(np.isfinite(list(each.values())).all() for each in by_name.values())


def bomb(path: Path) -> Path:
    """A valid header that promises 10,000 x 10,000 pixels, and nothing behind it."""
    save(path, np.zeros((1, 1), np.uint8))
    data = bytearray(path.read_bytes())
    data[16:24] = (10_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def truncated(path: Path) -> Path:
    save(path, np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:900])
    return path


def test_bad_pictures_are_named(bundle: Path, tmp_path: Path):
    (tmp_path / "notes.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    cases = {
        tmp_path / "absent.png": "there is no such file",
        tmp_path: "is a folder",
        tmp_path / "notes.png": "is no PNG",
        tmp_path / "empty.png": "empty.png is empty",
        truncated(tmp_path / "cut.png"): "damaged",
        bomb(tmp_path / "bomb.png"): "64 megapixels",
        save(tmp_path / "line.png", np.zeros((1, 70_000), np.uint8)): "a side of 70,000 pixels",
    }
    for path, words in cases.items():
        with pytest.raises(MetaloomError) as error:
            predict(bundle, [path])
        assert str(error.value).startswith(str(path)) and words in str(error.value)


def test_a_damaged_bundle_is_not_used(bundle: Path, shapes: Path):
    (bundle / "labels.json").write_text('["a", "b", "c", "d"]')
    with pytest.raises(MetaloomError, match=r"labels\.json: its content has changed"):
        predict(bundle, [next(shapes.rglob("*.png"))])
    with pytest.raises(MetaloomError, match="is no bundle"):
        predict(shapes, [next(shapes.rglob("*.png"))])
