"""Texts and labels that nobody means, on the command line and in tables."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from texts import drawn_texts
from typer.testing import CliRunner

from metaloom.cli.app import app, main
from metaloom.data.files import read_argument, read_examples
from metaloom.data.labels import read_labels
from metaloom.data.packed import Dataset
from metaloom.data.support import read_support, task_paths
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.text.kind import Text
from metaloom.kinds.vectors.kind import Vectors
from metaloom.stages import prepare
from metaloom.system.files import strict_json

KIND = Text(features=60, characters=64)
TAKEN = {
    "longer than a file's name": "x" * 300,
    "longer than a path": "open the door " * 70_000,
    "emoji": "\U0001f642\u200d\U0001f642",
    "right to left": "\u202eopen\u202c \u200f",
    "controls": "a\x1b[2J\x07",
    "combining": "e" + "\u0301" * 5000,
    "half a character": "open \ud800 door",
    "a formula": "=1+1",
}


@pytest.mark.parametrize("name", TAKEN)
def test_any_text_is_a_text(name: str, tmp_path: Path):
    (example,) = read_argument(TAKEN[name], KIND)
    assert KIND.pack(example.raw).shape == (64,)
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": TAKEN[name], "label": "a"}))
    (same,) = read_examples(tmp_path / "t.jsonl", KIND)
    assert str(same.raw) == str(example.raw)
    json.loads(strict_json([{"example": TAKEN[name]}]).encode())


@pytest.mark.parametrize("text", ["", "  ", "\u00a0\u3000", "\t\n"])
def test_a_text_of_nothing_is_said_so(text: str):
    with pytest.raises(MetaloomError, match="is empty: write a text"):
        read_argument(text, KIND)


@pytest.mark.parametrize("text", ["\0", "open\0the door"])
def test_the_end_of_a_text_in_c_is_refused(text: str):
    with pytest.raises(MetaloomError, match="has a NUL character: remove it"):
        read_argument(text, KIND)
    with pytest.raises(MetaloomError, match="cannot be read: embedded null byte"):
        read_examples(text, Pictures(28, 1))


@pytest.mark.parametrize("column", ["label", "domain"])
@pytest.mark.parametrize(("odd", "what"), [("b\ud800", "half a"), ("b\0", "a NUL")])
def test_half_a_character_in_a_name_is_refused(column: str, odd: str, what: str, tmp_path: Path):
    rows = [{"text": f"open {n}", "label": "a", "domain": "d"} for n in range(3)]
    rows[1][column] = odd
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(MetaloomError, match=rf"t.jsonl has {what} character in row 2 of its column {column}"):
        read_examples(tmp_path / "t.jsonl", KIND)


@pytest.mark.parametrize("odd", ["b\ud800", "b\0"])
def test_half_a_character_in_a_table_of_labels_is_refused(odd: str):
    content = json.dumps({"path": "a.png", "label": odd}).encode()
    with pytest.raises(MetaloomError, match="metadata.jsonl, row 1, has half a character, or a NUL, in a name"):
        read_labels(content, PurePosixPath(), "metadata.jsonl")


def test_half_a_character_in_an_array_of_classes_is_refused(tmp_path: Path):
    np.savez(tmp_path / "t.npz", X=np.eye(2, dtype=np.float32), y=np.array(["a", "b\ud800"]))
    with pytest.raises(MetaloomError, match=r"t.npz has half a character in row 2 of its column y"):
        read_examples(tmp_path / "t.npz", Vectors())


@pytest.mark.parametrize("of", ["class", "task"])
def test_a_folder_that_is_no_utf8_is_refused(of: str, shapes: Path, tmp_path: Path):
    task = os.fsencode(tmp_path) + (b"/t\xff" if of == "task" else b"/task")
    for name in (b"a", b"b\xff" if of == "class" else b"b"):
        os.makedirs(task + b"/" + name)
        number = b"0" if name == b"a" else b"1"
        os.symlink(os.fsencode(shapes) + b"/domain0/class" + number + b"/0.png", task + b"/" + name + b"/0.png")
    with pytest.raises(MetaloomError, match="is no valid UTF-8: rename it"):
        read_support(os.fsdecode(task), Pictures(28, 1), (28, 28, 1))
    if of == "task":
        with pytest.raises(MetaloomError, match="is no valid UTF-8: rename it"):
            task_paths(tmp_path, Pictures(28, 1))


def lines(rows: list[tuple[str, str]]) -> bytes:
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows).encode()


GOOD = drawn_texts("shop", examples=4)
REFUSED = {
    "half a character.jsonl": (lines([*GOOD, ("open", "a\ud800")]), "half a character in row 25 of its column label"),
    "a NUL.jsonl": (lines([*GOOD, ("open", "a\0")]), "a NUL character in row 25 of its column label"),
    "Latin-1.csv": ("text,label\nüber,a\n".encode("latin-1"), "is no UTF-8 (byte 11): save it in this encoding"),
    "UTF-16.csv": ("text,label\nüber,a\n".encode("utf-16"), "is no UTF-8 (byte 0): save it in this encoding"),
    "without names.csv": (
        b"word " * 10**5 + b",a\n",
        "has no names of columns in its first line ('word word word word ",
    ),
    "NUL alone.csv": (b"\0" * 100, "has no names of columns in its first line"),
    "deep.jsonl": (b'{"text": ' + b"[" * 200_000, "has no JSON object in line 1: fix or remove it"),
}


@pytest.mark.slow
def test_odd_texts_are_added_and_prepared_or_refused_in_a_line(standin, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Nothing is half there: what is refused leaves data/, its version and the settings as they were."""
    odd = [("open\0door", "apple"), ("word " * 200_000, "apple"), ("open \ud800 door", "apple")]
    (tmp_path / "odd.jsonl").write_bytes(lines([*GOOD, *odd]))
    said = CliRunner().invoke(app, ["data", "add", str(tmp_path / "odd.jsonl"), "--only"]).output
    assert "26 texts of 6 classes" in said and "left out: 1 unreadable" in said, said
    assert "1 text of more than 1,000 characters" in said
    prepare.main("data", "dataset")
    assert len(Dataset.load("dataset").items) == 26
    capsys.readouterr()

    before = {path: path.read_bytes() for path in (*Path("data").iterdir(), Path("data.dvc"), Path("params.yaml"))}
    for name, (content, why) in REFUSED.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SystemExit) as ended:
            main(lambda name=name: app(["data", "add", str(tmp_path / name)]))
        out, err = capsys.readouterr()
        assert ended.value.code == 2 and out == "" and err.count("\n") == 1 and len(err) < 500, name
        assert err.startswith("error: ") and why in err, err
    assert {path: path.read_bytes() for path in (*Path("data").iterdir(), *before)} == before
    assert not Path(".metaloom/adding").exists()
