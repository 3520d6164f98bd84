"""Texts and labels that nobody means, on the command line and in tables."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import pytest

from metaloom.data.files import read_argument, read_examples
from metaloom.data.labels import read_labels
from metaloom.data.support import read_support, task_paths
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.text.kind import Text
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
def test_half_a_character_in_a_name_is_refused(column: str, tmp_path: Path):
    rows = [{"text": f"open {n}", "label": "a", "domain": "d"} for n in range(3)]
    rows[1][column] = "b\ud800"
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(MetaloomError, match=rf"t.jsonl has half a character in row 2 of its column {column}"):
        read_examples(tmp_path / "t.jsonl", KIND)


def test_half_a_character_in_a_table_of_labels_is_refused():
    content = json.dumps({"path": "a.png", "label": "b\ud800"}).encode()
    with pytest.raises(MetaloomError, match="metadata.jsonl, row 1, has half a character"):
        read_labels(content, PurePosixPath(), "metadata.jsonl")


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
