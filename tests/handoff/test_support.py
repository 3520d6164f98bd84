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


def test_names_every_file_that_cannot_be_read(folder: Path):
    bad = [folder / "class0/notes.txt", folder / "class1/2.png", folder / "class3/cut.png"]
    for path in bad:
        path.write_text("x")
    Image.new("L", (28, 28), 255).save(folder / "class2/blank.png")
    message = refusal(folder)
    assert all(str(path) in message for path in [*bad, folder / "class2/blank.png"]) and "\n" not in message


def test_a_folder_of_splits_or_of_tasks_is_not_taken_for_a_task(shapes: Path, tmp_path: Path):
    for split in ("train", "val"):
        shutil.copytree(shapes / "domain1", tmp_path / "splits" / split)
    of_splits = refusal(tmp_path / "splits")
    assert of_splits.endswith(
        f"holds the splits train, val, not classes: give the one to learn from, {tmp_path}/splits/train"
    )
    assert read_support(tmp_path / "splits/train", *GREY).labels == ["class0", "class1", "class2", "class3"]
    assert "domain0, domain1, domain2 and 7 more, each with folders" in refusal(shapes) and "fleet" in refusal(shapes)
    for name in ("train", "test"):  # toys, and what is no split at all
        shutil.copytree(
            shapes / "domain1/class0" if name == "test" else shapes / "domain1/class1", tmp_path / "toys" / name
        )
    assert read_support(tmp_path / "toys", *GREY).labels == ["test", "train"]
