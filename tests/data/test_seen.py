"""What `prepare` says and keeps of pictures as they came: negatives, and a preview."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from metaloom.data.packed import Dataset
from metaloom.data.preview import read_preview
from metaloom.kinds.pictures.ground import grounds
from metaloom.kinds.pictures.kind import Pictures
from metaloom.stages import prepare


@pytest.fixture
def place(tmp_path: Path, shapes: Path, repo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny data set, to be changed, in data/."""
    (tmp_path / "params.yaml").write_text((repo / "params.yaml").read_text())
    shutil.copytree(shapes, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def turned(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        ImageOps.invert(Image.open(path)).save(path)


def notes() -> list[str]:
    prepare.main("data", "dataset")
    return Dataset.load("dataset").quality["notes"]


def test_a_domain_and_a_class_that_are_light_on_dark_are_said(place: Path, capsys: pytest.CaptureFixture[str]):
    assert notes() == []
    turned(Path("data/domain1"))
    turned(Path("data/domain3/class2"))
    (said,) = notes()
    assert said in capsys.readouterr().out
    assert re.fullmatch(
        r"domain1, domain3/class2: light on dark, where 35 of the other 35 classes are dark on light; if that is by "
        "accident, invert these images",
        said,
    )


def test_pictures_whose_edges_are_of_many_levels_have_no_ground():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 28, 28, 3), np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, 28).astype(np.uint8)[:, None, None], (28, 28, 3))[None]
    touched = np.full((1, 28, 28, 3), 250, np.uint8)
    touched[:, :8, :20] = 0  # what is drawn reaches the edge
    assert np.isnan(grounds(np.concatenate([noise, ramp]))).all()
    assert grounds(touched).tolist() == [[250, 250, 250]]
    assert Pictures(28, 3).trait(noise[0]) is None and Pictures(28, 3).trait(touched[0]) == 250 / 255


def test_classes_of_photographs_and_mixed_ones_are_neither():
    kind = Pictures(28, 1)
    mixed = [("a", f"a/{place % 2}", (0.0, 1.0)[place // 2 % 2]) for place in range(40)]
    assert kind.oddities(mixed) == []
    assert kind.oddities([("a", "a/x", 1.0), ("a", "a/y", 1.0), ("a", "a/z", None), ("a", "a/w", 0.5)]) == []


def test_pictures_that_are_packed_as_they_came_need_no_preview(place: Path):
    prepare.main("data", "dataset")
    assert read_preview(Path("dataset")) == []


def test_the_preview_keeps_the_picture_as_it_came(place: Path):
    """The widest and the highest are among them, in colour, at their own shape."""
    wide = Image.new("RGB", (300, 60), (200, 30, 30))
    ImageDraw.Draw(wide).ellipse((100, 10, 200, 50), fill=(30, 30, 200))
    wide.save("data/domain2/class1/wide.png")
    wide.transpose(Image.Transpose.ROTATE_90).save("data/domain4/class0/high.png")
    prepare.main("data", "dataset")
    dataset, found = Dataset.load("dataset"), read_preview(Path("dataset"))
    sources = {each.row: dataset.items["source"][each.row] for each in found}
    by = {source: next(p for p in found if p.row == row) for row, source in sources.items()}
    assert len(found) == 6
    assert (
        by["domain2/class1/wide.png"].size == "300 × 60 pixels"
        and by["domain4/class0/high.png"].size == "60 × 300 pixels"
    )
    seen = Image.open(io.BytesIO(base64.b64decode(by["domain2/class1/wide.png"].uri.split(",")[1])))
    assert seen.size == (64, 13)
    assert np.abs(np.asarray(seen.convert("RGB"))[0, 0] - np.array([200, 30, 30])).max() < 12  # but for compression
    row = next(row for row, source in sources.items() if source == "domain2/class1/wide.png")
    assert (dataset.examples[row][0] == 255).all()  # what the network sees: grey, with white above
    one, other = (Path(folder, "preview.json").read_bytes() for folder in ("dataset", again()))
    assert one == other


def again() -> str:
    prepare.main("data", "again")
    return "again"
