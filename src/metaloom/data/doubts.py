"""What cannot be told of a table is asked, with what to type."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from metaloom.data.labels import COLUMNS, NAMES
from metaloom.errors import MetaloomError
from metaloom.kinds import KINDS, Kind
from metaloom.kinds.columns import DOMAIN, LABEL, SHOWN, TEXT, is_number, of_contents, of_files, usual
from metaloom.system.plural import some

if TYPE_CHECKING:
    import pandas as pd

FEATURES = 3  # columns of numbers beside texts: the examples may be either


def asked(sample: pd.DataFrame, kinds: dict[str, Kind], given: dict[str, str]) -> str:
    """What to type where nothing says which column is for what."""
    known = {*given.values(), *(usual(what, map(str, sample.columns)) for what in (LABEL, DOMAIN))}
    words = [str(name) for name in sample.columns if name not in known and not is_number(sample[name])]
    no_numbers = f" ({some(words, SHOWN)} {'is none' if len(words) == 1 else 'are none'})" if words else ""
    options = [f"--{what} COLUMN" for what in (LABEL, DOMAIN) if what not in given]
    asked = {LABEL: "which one is of classes", DOMAIN: "which of domains"}
    wanted = ", and ".join(asked[what] for what in asked if what not in given)
    of_rows = f"{wanted}? Say it with {' and '.join(options)}, and leave" if options else "leave"
    of_texts = "which one is of texts? Say it with --text COLUMN; or if its rows are of numbers, "
    return f"{of_texts if 'text' in kinds else ''}{of_rows} out all others that are no numbers{no_numbers}"


def refuse_of_pictures(sample: pd.DataFrame, path: Path, text: str | None, found: bool) -> None:
    """Raises MetaloomError where a table is of pictures, whose names or contents would be read as texts.

    Args:
        sample: first rows of the table.
        path: that was given.
        text: the column that would be that of texts, if there is one.
        found: whether any kind would take the table.
    """
    if (name := of_contents(sample)) and (name == text or not found):
        raise MetaloomError(
            f"holds pictures or other files in its column {name}: write each into a file of its own, "
            f"{KINDS['pictures'].layout}; or name the column of texts, `--text COLUMN`"
        )
    if (name := of_files(sample, KINDS["pictures"].suffixes)) and (name == text or not found):
        folder = path if path.is_dir() else path.parent
        raise MetaloomError(
            f"names pictures in its column {name}: put it beside them as {NAMES[0]} with the columns "
            f"{COLUMNS}, and add the folder, `metaloom data add {folder}`; or if these are texts, say `--kind text`"
        )


def refuse_numbers(sample: pd.DataFrame, columns: dict[str, str], source: str) -> None:
    """Raises MetaloomError where so many columns are of numbers that the texts may be notes beside them."""
    rest = [name for name in sample.columns if str(name) not in columns.values()]
    numbers = [name for name in rest if is_number(sample[name])]
    if len(numbers) >= FEATURES:
        raise MetaloomError(
            f"{source} has {len(numbers)} columns of numbers, and texts in {columns[TEXT]}: say "
            f"`--text {shlex.quote(columns[TEXT])}` to learn from the texts, or leave that column out to learn from "
            "the numbers"
        )
