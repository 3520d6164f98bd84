"""What the columns of a table are for, by their usual names or by what is in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from metaloom.errors import MetaloomError
from metaloom.system.meant import meant
from metaloom.system.plural import some

if TYPE_CHECKING:
    import pandas as pd

TEXT, LABEL, DOMAIN = "text", "label", "domain"
USUAL = {
    TEXT: ("text", "sentence", "utterance", "query", "question", "message", "content"),
    LABEL: ("label", "class", "intent", "category"),
    DOMAIN: ("domain", "topic", "scenario"),
}
SHOWN = 6  # columns that a message names
LONGEST = 1000  # characters of a column's name
NOTHING = ("", "nan", "na", "n/a", "#n/a", "null", "none")  # in a cell, in any case, where a number is missing
DATES = "mM"  # kinds of NumPy's types
REPEATED = 0.5  # a column of classes has at most this share of values that differ
WORDS = 2.0  # a column of texts has so many words in a cell or more, on the average


def check_names(names: Iterable[str]) -> None:
    """Raises MetaloomError where one is no name: a table without a line of names has its first row there."""
    if odd := next((name for name in names if len(name) > LONGEST or not whole(name)), None):
        raise MetaloomError(
            f"has no names of columns in its first line ({odd[:20]!r}… of {len(odd):,} characters): write them there"
        )


def whole(word: str) -> bool:
    """Whether it can be a name anywhere: it has neither NUL, the end of a text in C, nor half a character."""
    return "\0" not in word and word.encode("utf-8", "replace").decode() == word


class AbsentColumnError(MetaloomError):
    """A table has no column of the name that a setting gives.

    Args:
        what: is it that the column would hold.
        name: that it would have.
        message: with the setting to change.
        known: the same without it.
    """

    def __init__(self, what: str, name: str, message: str, known: str) -> None:
        super().__init__(message)
        self.what, self.name, self.known = what, name, known


def check_cells(cells: Iterable[str | None], column: str | None) -> None:
    """Raises MetaloomError where a name of a class or domain cannot be one."""
    for number, cell in enumerate(cells, start=1):
        if cell is not None and not whole(cell):
            flaw = "a NUL" if "\0" in cell else "half a"
            raise MetaloomError(
                f"has {flaw} character in row {number} of its column {column} ({cell!r:.60}): write it whole"
            )


def usual(what: str, names: Iterable[str]) -> str | None:
    """The column by its usual names, in any case; of several the name that is listed first."""
    return called(USUAL[what], names)


def called(wanted: Iterable[str], names: Iterable[str]) -> str | None:
    """The column by one of these names, in any case; of several the name that is listed first."""
    plain = {name.strip().lower(): name for name in reversed(list(names))}
    return next((plain[each] for each in wanted if each in plain), None)


def given(what: str, name: str | None, names: Collection[str], setting: str) -> str | None:
    """The column that a setting names; None where the setting is.

    Raises:
        AbsentColumnError: there is no such column.
    """
    if name is not None and name not in names:
        known = f"has no column {name}, only {some(list(names), SHOWN)}{meant(name, names)}"
        raise AbsentColumnError(what, name, f"{known}: change {setting}.{what}", known)
    return name


def is_number(column: pd.Series) -> bool:
    """Whether all cells that have something in them are numbers; a date is none."""
    import pandas as pd

    if column.dtype.kind in DATES:
        return False
    cells = column.dropna()
    cells = cells[~_as_words(cells).str.strip().str.lower().isin(NOTHING)]
    return bool(len(cells)) and bool(pd.to_numeric(cells, errors="coerce").notna().all())


def only_classes(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    """The one column, if it is one, whose cells repeat as names of classes do."""
    found = [name for name in names if _repeats(table[name])]
    return found[0] if len(found) == 1 else None


def only_texts(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    """The one column, if it is one, whose cells have several words, and do not repeat as names of classes do."""
    found = [name for name in names if _words(table[name]) >= WORDS and not _repeats(table[name])]
    found = [name for name in found if not is_number(table[name]) and table[name].dtype.kind not in DATES]
    return found[0] if len(found) == 1 else None


def of_files(table: pd.DataFrame, suffixes: tuple[str, ...]) -> str | None:
    """The first column, if there is one, whose cells are names of files that end so."""
    return next((str(name) for name in table.columns if _are_files(table[name], suffixes)), None)


def _are_files(column: pd.Series, suffixes: tuple[str, ...]) -> bool:
    cells = _as_words(column.dropna())
    return bool(len(cells)) and float(cells.str.strip().str.lower().str.endswith(suffixes).mean()) > REPEATED


def of_contents(table: pd.DataFrame) -> str | None:
    """The first column, if there is one, that holds files themselves: as bytes, or as `datasets` keeps pictures."""
    return next((str(name) for name in table.columns if any(map(_is_content, table[name].head(SHOWN)))), None)


def _is_content(cell: object) -> bool:
    return isinstance(cell, bytes) or (isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes))


def _repeats(column: pd.Series) -> bool:
    cells = _as_words(column.dropna())
    return bool(len(cells)) and 1 < cells.nunique() <= REPEATED * len(cells)


def _words(column: pd.Series) -> float:
    cells = _as_words(column.dropna())
    return float(cells.str.split().str.len().mean()) if len(cells) else 0.0


def as_csv(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as the text of a file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(header), *map(list, rows)])
    return text.getvalue()


def _as_words(cells: pd.Series) -> pd.Series:
    """Python's own strings: those of pandas cannot hold half a character."""
    import pandas as pd

    return pd.Series([str(cell) for cell in cells], cells.index, dtype=object)
