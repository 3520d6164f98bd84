"""Tables of texts: CSV, TSV, JSON lines and Parquet, with columns by their usual names or those of the settings."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metaloom.errors import MetaloomError
from metaloom.kinds.base import Row
from metaloom.system.plural import some

if TYPE_CHECKING:
    import pandas as pd

PARQUET = b"PAR1"  # what the file begins with
BOM = b"\xef\xbb\xbf"
USUAL = {
    "text": ("text", "sentence", "utterance", "query", "question", "message", "content"),
    "label": ("label", "class", "intent", "category"),
    "domain": ("domain", "topic", "scenario"),
}
SHOWN = 6  # columns that a message names
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
    table = _read(content.removeprefix(BOM))
    names = [str(name) for name in table.columns]
    text = _found("text", columns.text, names)
    if text is None:
        raise MetaloomError(
            f"has no column of texts, only {some(names, SHOWN)}: call it `text`, or name it in text.text"
        )
    label, domain = (_found(what, getattr(columns, what), names) for what in ("label", "domain"))
    texts, labels, domains = (_cells(table, name) for name in (text, label, domain))
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


def _read(content: bytes) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        if content.startswith(PARQUET):
            return pd.read_parquet(io.BytesIO(content))
        text = content.decode("utf-8")
        if text.lstrip().startswith("{"):
            return pd.DataFrame(_objects(text), dtype=object)
        mark = "\t" if "\t" in text.partition("\n")[0] else ","
        return pd.read_csv(io.StringIO(text), sep=mark, dtype=str, keep_default_na=False, index_col=False)
    except UnicodeDecodeError as error:
        raise MetaloomError(f"is no UTF-8 (byte {error.start}): save it in this encoding") from None
    except (ValueError, pa.ArrowException, OSError) as error:  # pandas' own errors are ValueErrors
        said = str(error).splitlines()[0]
        raise MetaloomError(f"is no CSV, TSV, JSON lines or Parquet table ({said}): fix or remove it") from None


def _objects(text: str) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):  # a text may have other ends of lines in it
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise MetaloomError(f"has no JSON object in line {number}: fix or remove it")
        found.append(value)
    return found


def _found(what: str, given: str | None, names: list[str]) -> str | None:
    """The column's own name in a table; one that the settings give has to be there if it is of texts or labels."""
    if given is not None:
        if given not in names and what != "label":  # texts to classify have no labels
            raise MetaloomError(f"has no column {given}, only {some(names, SHOWN)}: change text.{what}")
        return given if given in names else None
    plain = {name.strip().lower(): name for name in reversed(names)}
    return next((plain[usual] for usual in USUAL[what] if usual in plain), None)


def _cells(table: pd.DataFrame, name: str | None) -> list[str | None]:
    """A column's texts with single spaces; None for an empty cell, and for each where there is no column."""
    if name is None:
        return [None] * len(table)
    column = table[name]
    cells = zip(column, column.notna(), strict=True)
    return [" ".join(str(cell).split()) or None if there else None for cell, there in cells]


def _refuse_many(labels: list[str | None], name: str | None) -> None:
    values = len(set(labels))
    if len(labels) >= MANY_ROWS and values > MANY_LABELS * len(labels):
        raise MetaloomError(
            f"has {values:,} values in {len(labels):,} rows of its column {name}, so these are no classes: "
            "name the column of classes in text.label"
        )
