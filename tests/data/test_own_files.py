"""A user's own tables: of one task, so without the column of domains that data/ has."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaloom.data.files import read_examples
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind
from metaloom.kinds.text.kind import Text
from metaloom.kinds.vectors.kind import Vectors

VECTORS = Vectors(label="fault", domain="site", columns=("x", "y"))
TEXTS = Text(text="body", label="wish", domain="shop")


@pytest.mark.parametrize(
    ("kind", "lines", "labels"),
    [
        (VECTORS, ["fault,x,y", "leak,1,2", "heat,3,4"], ["leak", "heat"]),
        (VECTORS, ["x,y", "1,2", "3,4"], [None, None]),
        (VECTORS, ["site,fault,y,x", "a,leak,2,1", "a,heat,4,3"], ["leak", "heat"]),
        (TEXTS, ["body,wish", "where is it,track", "my money,refund"], ["track", "refund"]),
        (TEXTS, ["body", "where is it", "my money"], [None, None]),
    ],
)
def test_the_column_of_domains_may_be_absent(tmp_path: Path, kind: Kind, lines: list[str], labels: list[str | None]):
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(lines) + "\n")
    found = read_examples(table, kind)
    assert [each.label for each in found] == labels
    if kind is VECTORS:
        assert [each.raw.tolist() for each in found] == [[1, 2], [3, 4]]


def test_a_column_of_domains_that_is_there_has_to_be_right(tmp_path: Path):
    table = tmp_path / "mine.csv"
    table.write_bytes(b"shop,body,wish\na\0b,where is it,track\n")
    with pytest.raises(MetaloomError, match="NUL"):
        read_examples(table, TEXTS)


def test_what_else_is_wrong_is_said_of_the_table_as_it_is(tmp_path: Path):
    table = tmp_path / "mine.csv"
    table.write_text("site,fault,x\na,leak,1\n")
    with pytest.raises(MetaloomError, match="y is missing"):
        read_examples(table, VECTORS)
