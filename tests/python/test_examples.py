"""Examples in every form that Python has them are what the same example in a file is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import metaloom
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.pictures.read import decode
from metaloom.kinds.text.encode import TextEncoding
from metaloom.kinds.text.kind import Text
from metaloom.kinds.vectors.encode import VectorEncoding
from metaloom.kinds.vectors.kind import Vectors
from metaloom.python.examples import raw_examples
from metaloom.python.folder import load_folder
from metaloom.python.learner import Learner, packed

GREY, COLOUR = Pictures(8, 1), Pictures(8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 11, 13, 3), dtype=np.uint8)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(len(PIXELS))]
    for path, pixels in zip(found, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    return found


FORMS = {
    "paths": lambda paths: paths,
    "texts": lambda paths: tuple(str(path) for path in paths),
    "array of texts": lambda paths: np.array([str(path) for path in paths]),
    "column": lambda paths: pd.Series(paths),
    "bytes": lambda paths: [path.read_bytes() for path in paths],
    "pictures": lambda paths: [Image.open(path) for path in paths],
    "array": lambda paths: PIXELS,
    "list of arrays": lambda paths: list(PIXELS),
    "nested lists": lambda paths: PIXELS.tolist(),
    "floats to 1": lambda paths: PIXELS / 255,
    "floats to 255": lambda paths: PIXELS.astype(np.float32),
    "int64": lambda paths: PIXELS.astype(np.int64),
    "16 bits": lambda paths: PIXELS.astype(np.uint16) * 257,
    "with alpha": lambda paths: np.concatenate([PIXELS, np.full_like(PIXELS[..., :1], 255)], axis=-1),
    "torchvision": lambda paths: torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255,
    "list of tensors": lambda paths: list(torch.from_numpy(PIXELS).permute(0, 3, 1, 2)),
}


@pytest.mark.parametrize("kind", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_as_their_files_are_read(form: str, kind: Pictures, paths: list[Path]):
    expected = [decode(path.read_bytes(), kind.channels) for path in paths]
    found = raw_examples(FORMS[form](paths), kind)
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.uint8


@pytest.mark.parametrize("kind", [GREY, COLOUR], ids=["grey", "colour"])
def test_grey_pictures_with_and_without_an_axis_of_channels(kind: Pictures):
    grey = PIXELS[..., 0]
    for given in (grey, list(grey), grey[..., None], grey / 255, grey[:, None]):
        for one, other in zip(raw_examples(given, kind), grey, strict=True):
            np.testing.assert_array_equal(one, np.repeat(other[..., None], kind.channels, axis=-1))
    (black_and_white,) = raw_examples([grey[0] > 99], GREY)
    np.testing.assert_array_equal(black_and_white[..., 0], np.where(grey[0] > 99, 255, 0))


def test_one_alone_many_sizes_and_rows_of_pixels(paths: list[Path]):
    for one in (paths[0], str(paths[0]), Image.open(paths[0]), paths[0].read_bytes()):
        np.testing.assert_array_equal(raw_examples(one, COLOUR)[0], PIXELS[0])
    mixed = raw_examples([paths[0], PIXELS[1, :5], Image.new("L", (3, 2))], COLOUR)
    assert [each.shape for each in mixed] == [(11, 13, 3), (5, 13, 3), (2, 3, 3)]
    rows = np.arange(128, dtype=np.uint8).reshape(2, 64)
    for given in (rows, rows.tolist(), list(rows), pd.DataFrame(rows), rows / 255):
        np.testing.assert_array_equal(np.stack(raw_examples(given, GREY)), rows.reshape(2, 8, 8, 1))


def test_pictures_of_pillow_are_upright_and_on_white(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS[0]).save(tmp_path / "turned.jpg", exif=exif)
    clear = Image.fromarray(np.dstack([PIXELS[0], PIXELS[1, ..., 0]]))
    clear.save(tmp_path / "clear.png")
    sixteen = Image.fromarray(PIXELS[0, ..., 0].astype(np.uint16) * 257)
    sixteen.save(tmp_path / "sixteen.png")
    palette = clear.quantize(16)
    palette.save(tmp_path / "palette.png")
    for name in ("turned.jpg", "clear.png", "sixteen.png", "palette.png"):
        path = tmp_path / name
        with Image.open(path) as picture:
            np.testing.assert_array_equal(raw_examples([picture], GREY)[0], decode(path.read_bytes(), 1))
    assert raw_examples([Image.open(tmp_path / "turned.jpg")], GREY)[0].shape == (13, 11, 1)
    cmyk = Image.fromarray(PIXELS[0]).convert("CMYK")
    np.testing.assert_array_equal(raw_examples([cmyk], COLOUR)[0], np.asarray(cmyk.convert("RGB")))


WRONG = {
    "an array (5,)": (np.zeros(5), GREY),
    "an array (8, 9, 3): give (image, height, width)": (PIXELS[0, :8, :9], COLOUR),
    "rows of 64 pixels (8 x 8 x 1)": (np.zeros((2, 63)), GREY),
    "image 2 is a dict: give a path": ([PIXELS[0], {"a": 1}], GREY),
    "image 2 is an array (2, 2, 9, 9)": ([PIXELS[0], np.zeros((2, 2, 9, 9))], GREY),
    "image 1 has pixels from -1 to 1": ([np.array([[-1.0, 1.0]])], GREY),
    "image 1 has pixels from nan to nan": ([np.array([[np.nan, 1.0]])], GREY),
    "image 1 has pixels from 0 to 256": ([np.array([[0, 256]])], GREY),
    "image 1 has no pixels": ([np.zeros((0, 4))], GREY),
    "image 2 is no PNG": ([PIXELS[0], b"text"], GREY),
    "image 1 has floating-point numbers": (Image.new("F", (2, 2)), GREY),
    "there is no such file": ("absent.png", GREY),
    "a int was given: give a list of images": (3, GREY),
    "different numbers of values": ([[1, 2], [3]], GREY),
    "row 2 has a number that is missing": (np.array([[1.0, 2.0], [np.nan, 1.0]]), Vectors()),
    "the rows are float64 (3,)": (np.zeros(3), Vectors()),
    "columns that are no numbers: b": (pd.DataFrame({"a": [1], "b": ["x"]}), Vectors()),
    "without c and with class": (pd.DataFrame({"a": [1], "b": [2], "class": [0]}), Vectors(columns=("a", "b", "c"))),
    "text 2 is a float: give texts": (["one", float("nan")], Text(characters=9)),
    "text 1 is empty": (" ", Text(characters=9)),
    "has the columns a, b: give the one of the texts, as X['a']": (pd.DataFrame({"a": ["x"], "b": ["y"]}), Text()),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_no_example_is_refused_in_one_line(words: str):
    given, kind = WRONG[words]
    with pytest.raises(MetaloomError) as error:
        raw_examples(given, kind)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_picture_is_named_by_its_place(tmp_path: Path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    with pytest.raises(MetaloomError, match="^image 2 is damaged"):
        raw_examples([PIXELS[0], Image.open(tmp_path / "cut.png")], GREY)


def test_rows_go_by_the_names_of_the_columns(tmp_path: Path):
    rows = np.arange(6, dtype=np.float64).reshape(2, 3)
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    named = Vectors(columns=("a", "b", "c"))
    for given in (rows, rows.tolist(), frame[["c", "a", "b"]], tmp_path / "rows.csv", pd.DataFrame(rows)):
        np.testing.assert_array_equal(np.stack(raw_examples(given, named)), rows.astype(np.float32))
    encoding = VectorEncoding(named, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(MetaloomError, match=r"support rows are float32 \(2, 2\); this learner takes float32 .*3\)"):
        packed(rows[:, :2], encoding, "support")


def test_texts_from_lists_columns_and_files(tmp_path: Path):
    (tmp_path / "lines.txt").write_text("one\n\ntwo  words\n", encoding="utf-8")
    frame = pd.DataFrame({"text": ["one", "two words"], "label": ["a", "b"]})
    for given in (["one", "two  words"], frame, frame["text"], frame[["text"]], tmp_path / "lines.txt"):
        assert [str(each) for each in raw_examples(given, Text(characters=9))] == ["one", "two words"]
    encoding = TextEncoding(Text(characters=9), ("on",), (1.0,))
    codes = packed(["One"], encoding, "query")
    assert codes[0, :4].tolist() == [ord(c) for c in "one"] + [0]
    torch.testing.assert_close(packed(codes, encoding, "query"), codes)


class Sounds(Pictures):
    name = "sounds"


def test_a_kind_of_which_nothing_is_known_takes_its_own_arrays():
    kind: Kind = Sounds(8, 1)
    np.testing.assert_array_equal(raw_examples(PIXELS, kind)[1], PIXELS[1])


def test_a_learner_takes_a_folder_and_answers_as_of_packed_pictures(tiny_settings, tmp_path: Path):
    for name, pixels in zip(("a", "b"), PIXELS, strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
        (tmp_path / name / "Thumbs.db").write_bytes(b"junk")
        (tmp_path / name / ".hidden").touch()
    (tmp_path / "readme.txt").touch()
    paths, labels = metaloom.load_folder(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == ["a/1.png", "b/1.png"] and labels == ["a", "b"]
    core = metaloom.Learner.create("protonet", tiny_settings, PictureEncoding(Pictures(16, 1), (0.0,), (64.0,)))
    assert type(core) is Learner and type(core.changed()) is Learner
    core.save(tmp_path / "model")
    learner = metaloom.Learner.load(tmp_path / "model")
    task = learner.adapt(paths, pd.Series(labels))
    square = np.stack([learner.encoding.kind.pack(decode(path.read_bytes(), 1)) for path in paths])
    expected = super(Learner, learner).adapt(square, labels)
    np.testing.assert_array_equal(task.predict_proba(paths), expected.predict_proba(square))
    assert task.predict(paths[1]) == ["b"] and task.predict([]) == []
    task.save(tmp_path / "task")
    again = metaloom.AdaptedTask.load(tmp_path / "task")
    np.testing.assert_allclose(again.predict_proba(PIXELS / 255), expected.predict_proba(square), rtol=1e-5)
    with pytest.raises(MetaloomError, match="2 support images with 1 labels"):
        learner.adapt(paths, ["a"])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "not found: give a folder"),
        ([], "has no folders: put the files of each class"),
        (["a/1.png", "b/c/1.png"], "b has folders .c. in place of files"),
        (["a/1.png", "b/.hidden"], "b has no files: put examples"),
    ],
)
def test_a_folder_that_has_no_classes(files: list[str] | None, words: str, tmp_path: Path):
    for name in files or []:
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        (tmp_path / "set" / name).touch()
    if files == []:
        (tmp_path / "set").mkdir()
    with pytest.raises(MetaloomError, match=words):
        load_folder(tmp_path / "set")
