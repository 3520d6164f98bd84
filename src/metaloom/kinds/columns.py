"""What the columns of a table are for, by their usual names or by what is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from metaloom.errors import MetaloomError
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
NOTHING = ("", "nan", "na", "n/a", "#n/a", "null", "none")  # in a cell, in any case, where a number is missing
REPEATED = 0.5  # a column of classes has at most this share of values that differ
WORDS = 2.0  # a column of texts has so many words in a cell or more, on the average


def usual(what: str, names: Iterable[str]) -> str | None:
    """The column by its usual names, in any case; of several the name that is listed first."""
    plain = {name.strip().lower(): name for name in reversed(list(names))}
    return next((plain[each] for each in USUAL[what] if each in plain), None)


def given(what: str, name: str | None, names: Collection[str], setting: str) -> str | None:
    """The column that a setting names; None where the setting is.

    Raises:
        MetaloomError: there is no such column.
    """
    if name is not None and name not in names:
        raise MetaloomError(f"has no column {name}, only {some(list(names), SHOWN)}: change {setting}.{what}")
    return name


def is_number(column: pd.Series) -> bool:
    """Whether all cells that have something in them are numbers."""
    import pandas as pd

    cells = column.dropna()
    cells = cells[~cells.astype(str).str.strip().str.lower().isin(NOTHING)]
    return bool(len(cells)) and bool(pd.to_numeric(cells, errors="coerce").notna().all())


def only_classes(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    """The one column, if it is one, whose cells repeat as names of classes do."""
    found = [name for name in names if _repeats(table[name])]
    return found[0] if len(found) == 1 else None


def only_texts(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    """The one column, if it is one, whose cells have several words."""
    found = [name for name in names if not is_number(table[name]) and _words(table[name]) >= WORDS]
    return found[0] if len(found) == 1 else None


def _repeats(column: pd.Series) -> bool:
    cells = column.dropna().astype(str)
    return bool(len(cells)) and 1 < cells.nunique() <= REPEATED * len(cells)


def _words(column: pd.Series) -> float:
    cells = column.dropna().astype(str)
    return float(cells.str.split().str.len().mean()) if len(cells) else 0.0
