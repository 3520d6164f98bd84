"""Tables of texts: CSV, TSV, JSON lines and Parquet, with columns by their usual names or those of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metaloom.errors import MetaloomError
from metaloom.kinds import columns as columns_of
from metaloom.kinds.base import Row
from metaloom.kinds.columns import DOMAIN, LABEL, SHOWN, TEXT, check_cells, usual
from metaloom.kinds.frames import BOM, read_table
from metaloom.system.plural import some

if TYPE_CHECKING:
    import pandas as pd

MANY_ROWS, MANY_LABELS = 1000, 0.5  # from so many rows, a column with so large a share of values names no classes


class Columns(NamedTuple):
    """Names that the settings give; None: one of the usual names."""

    text: str | None
    label: str | None
    domain: str | None


def read_rows(content: bytes, columns: Columns) -> list[Row]:
    """The texts of a file, white space made single spaces; without a class where there is no such column.

    Raises:
        MetaloomError: it cannot be read, or has not the columns; the message begins with a verb.
    """
    table = read_table(content)
    names = [str(name) for name in table.columns]
    text = _found(TEXT, columns.text, names)
    if text is None:
        raise MetaloomError(
            f"has no column of texts, only {some(names, SHOWN)}: call it `text`, or name it in text.text"
        )
    label, domain = (_found(what, getattr(columns, what), names) for what in (LABEL, DOMAIN))
    texts, labels, domains = (_cells(table, name) for name in (text, label, domain))
    for cells, name in ((labels, label), (domains, domain)):
        check_cells(cells, name)  # in a text itself a ? takes the place of half a character
    _refuse_many(labels, label)
    rows = zip(domains, labels, texts, strict=True)
    return [Row(d, own, (t or "").encode("utf-8", "replace")) for d, own, t in rows]


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line of a plain file that is not empty.

    Raises:
        MetaloomError: it is no UTF-8.
    """
    try:
        lines = path.read_bytes().removeprefix(BOM).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise MetaloomError(f"{path} is no UTF-8 (byte {error.start}): save it in this encoding") from None
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            yield number, " ".join(words).encode("utf-8")


def _found(what: str, named: str | None, names: list[str]) -> str | None:
    """The column's own name in a table; one that the settings name has to be there if it is of texts or domains."""
    if what == LABEL and named not in names and named is not None:  # texts to classify have no labels
        return None
    return columns_of.given(what, named, names, "text") or usual(what, names)


def _cells(table: pd.DataFrame, name: str | None) -> list[str | None]:
    """A column's texts with single spaces; None for an empty cell, and for each where there is no column."""
    if name is None:
        return [None] * len(table)
    column = table[name]
    if any(hasattr(cell, "__iter__") and not isinstance(cell, str) for cell in column):
        raise MetaloomError(f"has lists or objects in its column {name}: write a plain text into each row")
    cells = zip(column, column.notna(), strict=True)
    return [" ".join(str(cell).split()) or None if there else None for cell, there in cells]


def _refuse_many(labels: list[str | None], name: str | None) -> None:
    values = len(set(labels))
    if len(labels) >= MANY_ROWS and values > MANY_LABELS * len(labels):
        raise MetaloomError(
            f"has {values:,} values in {len(labels):,} rows of its column {name}, so these are no classes: "
            "name the column of classes in text.label"
        )
