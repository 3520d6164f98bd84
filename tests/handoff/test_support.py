from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaloom.data.support import read_support
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.kind import Pictures

GREY = Pictures(28, 1), (28, 28, 1)  # the kind, and the shape that a model takes


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes / "domain1", tmp_path / "support"))


def refusal(folder: Path) -> str:
    with pytest.raises(MetaloomError) as error:
        read_support(folder, *GREY)
    return str(error.value)


def test_reads_classes_in_the_order_of_their_names(folder: Path):
    (folder / ".DS_Store").write_text("x")
    (folder / "class2" / ".hidden").write_text("x")
    support = read_support(folder, *GREY)
    assert support.labels == ["class0", "class1", "class2", "class3"] and support.repeated == []
    assert support.examples.shape == (32, 28, 28, 1) and support.examples.dtype == np.uint8
    np.testing.assert_array_equal(support.ways, np.arange(4).repeat(8))
    expected = np.asarray(Image.open(folder / "class3" / "7.png"))
    np.testing.assert_array_equal(support.examples[-1, :, :, 0], expected)


def test_other_sizes_and_colours_fit(folder: Path):
    for path in folder.rglob("*.png"):
        Image.open(path).resize((50, 35)).convert("RGB").save(path)
    assert read_support(folder, *GREY).examples.shape == (32, 28, 28, 1)
    assert read_support(folder, Pictures(20, 3), (20, 20, 3)).examples.shape == (32, 20, 20, 3)


def test_a_repeated_picture_counts_once(folder: Path):
    Image.open(folder / "class1" / "0.png").save(folder / "class1" / "again.bmp")
    support = read_support(folder, *GREY)
    assert len(support.examples) == 32 and support.repeated == [str(folder / "class1" / "again.bmp")]


def test_refuses_what_is_no_task(folder: Path, tmp_path: Path):
    assert "not found" in refusal(tmp_path / "absent")
    assert "is a file" in refusal(folder / "class0" / "0.png")
    assert "has no class folders" in refusal(folder / "class0")
    for name in ("class1", "class2", "class3"):
        shutil.rmtree(folder / name)
    assert "has the one class class0" in refusal(folder)
    (folder / "new").mkdir()
    assert str(folder / "new") in refusal(folder) and "is empty" in refusal(folder)


def test_refuses_a_file_that_is_no_image(folder: Path):
    (folder / "class2" / "notes.txt").write_text("x")
    assert refusal(folder).startswith(str(folder / "class2" / "notes.txt"))
    (folder / "class2" / "notes.txt").unlink()
    (folder / "class2" / "deeper").mkdir()
    assert "deeper is a folder" in refusal(folder)


def test_refuses_a_blank_picture(folder: Path):
    Image.new("L", (28, 28), 255).save(folder / "class0" / "blank.png")
    assert refusal(folder).endswith("class0/blank.png is blank: all its pixels are alike: remove it")


def test_refuses_one_picture_in_two_classes(folder: Path):
    Image.open(folder / "class1" / "0.png").save(folder / "class3" / "same.bmp")
    message = refusal(folder)
    assert "class1/0.png" in message and "class3/same.bmp" in message and "in two classes" in message
