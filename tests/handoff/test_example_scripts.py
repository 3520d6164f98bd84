"""The scripts that travel in bundles of pictures: file by file they say what `predict` says, and refuse in one line."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import said_by_example
from PIL import ExifTags, Image

from metaloom.data.support import task_paths
from metaloom.handoff.adapting import fleet
from metaloom.handoff.adapting import shared as shared_fleet
from metaloom.handoff.bundle.predict import Prediction, predict
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.pictures.read import decode

SHIPPED = Path(__file__).parents[2] / "src/metaloom/kinds/pictures/shipped"


def odd_pictures(folder: Path) -> list[Path]:
    """A file of each sort that a careless reader gets wrong."""
    folder.mkdir()
    ramp = np.linspace(0, 255, 30 * 50).reshape(30, 50).astype(np.uint8)
    ramp[:8, :20] = 0
    grey = Image.fromarray(ramp)
    colour = Image.fromarray(np.dstack([ramp, ramp.T.reshape(30, 50), 255 - ramp]))
    for turn in range(10):  # 0 and 9 are none
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turn
        grey.save(folder / f"turned{turn}.jpg", exif=exif)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    grey.save(folder / "turned.tiff", exif=exif)
    colour.save(folder / "turned.png", exif=exif)
    Image.fromarray(ramp.astype(np.uint16) * 257).save(folder / "wide.png")
    Image.fromarray(ramp.astype(np.int32) * 300).save(folder / "wider.tiff")
    colour.save(folder / "colour.webp", lossless=True)
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    clear = np.dstack([np.zeros((40, 70, 3), np.uint8), np.zeros((40, 70), np.uint8)])  # invisible black
    Image.fromarray(clear).save(folder / "clear.png")
    clear[..., :3], clear[10:20, 10:60, 3] = 250, 200  # a light shape
    Image.fromarray(clear).save(folder / "light.png")
    clear[..., 3] = np.linspace(0, 255, 70)
    clear[..., 0] = 90
    Image.fromarray(clear).save(folder / "fading.png")
    Image.fromarray(clear[..., [0, 3]]).save(folder / "grey-fading.png")
    palette = colour.quantize(8)
    palette.save(folder / "palette.png", transparency=3)
    palette.save(folder / "palette.gif", transparency=2)
    Image.fromarray(ramp > 99).save(folder / "bits.png")
    return sorted(folder.iterdir())


def lines(found: list[Prediction]) -> list[list[str]]:
    return [[each.example, each.label, f"{each.probability:.3f}", f"novelty {each.novelty:.1f}"] for each in found]


def test_every_sort_of_picture_is_read_as_predict_reads_it(bundle: Path, tmp_path: Path):
    files = odd_pictures(tmp_path / "odd")
    assert said_by_example(bundle, *map(str, files)) == lines(predict(bundle, files))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("script", ["example.py", "plain.py"])
def test_the_pixels_are_those_of_training(script: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copy(SHIPPED / script, tmp_path)
    (tmp_path / "metadata.json").write_text(f'{{"input": {{"channels": {channels}}}}}')
    monkeypatch.setattr(sys, "argv", [script])
    code = (tmp_path / script).read_text(encoding="utf-8").partition("\npictures = sys.argv")[0]  # without the asking
    (tmp_path / script).write_text(code, encoding="utf-8")
    pixels = runpy.run_path(str(tmp_path / script), run_name="script")["pixels"]
    for file in odd_pictures(tmp_path / "odd"):
        found = pixels(file)
        np.testing.assert_array_equal(found[0] if found.ndim == 4 else found, decode(file.read_bytes(), channels))


def refused(bundle: Path, *arguments: object, script: str = "example.py") -> str:
    """What it says when it gives up: a line or two, without a traceback."""
    command = [sys.executable, "-I", str(bundle / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr


def test_what_cannot_be_used_is_refused_in_one_line(bundle: Path, shapes: Path, tmp_path: Path):
    whole = shapes / "domain0/class0/0.png"
    usage = "usage: python example.py [--learn DIR | --task NAME] PICTURE…\n"
    for arguments in ([], ["--learn"], ["--learn", shapes / "domain0"], ["--help"]):
        assert refused(bundle, *arguments) == usage
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent", whole, shapes / "domain0/class0"):
        assert refused(bundle, "--learn", folder, whole).startswith(f"{folder} is no folder of two classes or more")
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:60])
    for file in (cut, tmp_path / "absent.png", bundle / "labels.json"):
        said = refused(bundle, file)
        assert said.startswith(f"{file} cannot be read: ") and said.count("\n") == 1
    assert refused(bundle, "--task", "a", whole) == "this bundle is of one task: leave out --task\n"
    shutil.copy(SHIPPED / "plain.py", bundle)
    assert refused(bundle, script="plain.py") == "usage: python plain.py PICTURE…\n"


@pytest.fixture
def many(model: Path, shapes: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of three tasks, one of fewer classes."""
    shutil.copy(repo / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    fleet.maker_of.cache_clear()
    for domain in range(3):
        shutil.copytree(shapes / f"domain{domain}", tmp_path / f"tasks/task{domain}")
    shutil.rmtree(tmp_path / "tasks/task1/class0")
    paths = [str(each) for each in task_paths(tmp_path / "tasks", Pictures(28, 1))]
    shared_fleet.write_shared([shared_fleet.solve_part(paths, str(model))], tmp_path / "all", str(model))
    return tmp_path / "all"


@pytest.mark.slow
def test_the_example_of_a_shared_fleet_runs(many: Path, shapes: Path, make_learner: Callable):
    for task in ("task0", "task1", "task2"):
        files = sorted((shapes / "domain1").rglob("*.png"))[::7]
        assert said_by_example(many, "--task", task, *map(str, files)) == lines(predict(many, files, task=task))
    for arguments in ([], ["--task", "task9"]):
        said = refused(many, *arguments, files[0])
        assert said.endswith("labels.json names the tasks, such as task0, task1, task2\n")
    assert refused(many, "--learn", shapes / "domain2", files[0]).startswith("this bundle has no adapt.onnx")
