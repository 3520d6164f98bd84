"""Tables of numbers: CSV, Parquet, Arrow, and NumPy's own files."""

from __future__ import annotations

import io
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float32

from metaloom.errors import MetaloomError
from metaloom.kinds.columns import DATES, DOMAIN, LABEL, check_cells, given, usual
from metaloom.kinds.frames import is_columnar, read_columnar, separator
from metaloom.system.plural import some

if TYPE_CHECKING:
    import pandas as pd

CLASS = "class"  # before the other usual names of such a column
NPZ, NPY = b"PK\x03\x04", b"\x93NUMPY"  # what a file begins with
# names of the arrays in an .npz, beside the usual names of columns
LABELS, DOMAINS, NAMES = ("y", "labels", "classes", "target"), ("domains",), "columns"
LARGEST = 2**31  # bytes of an array
# what NumPy and zip files raise where a byte is wrong
DAMAGED = (
    *(ValueError, OSError, EOFError, SyntaxError, TypeError, LookupError, OverflowError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
MARK = "="
NAMELESS = re.compile(r"\s*|Unnamed: \d+")  # the second is what pandas makes of the first
SHOWN = 4  # columns that a message names


class Rows(NamedTuple):
    """A table as it was read; None where a row has no domain or class."""

    names: tuple[str, ...]
    domains: list[str | None]
    labels: list[str | None]
    numbers: Float32[np.ndarray, "item feature"]


def read_rows(content: bytes, label: str | None, domain: str | None, features: tuple[str, ...]) -> Rows:
    """The rows of a file.

    Args:
        content: the file.
        label: the column of classes, if a setting names it.
        domain: the column of domains, likewise.
        features: columns that are known to be numbers.

    Raises:
        MetaloomError: it cannot be read, or does not fit; the message begins with a verb.
    """
    if content.startswith((NPZ, NPY)):
        return _of_arrays(content, label, domain)
    table, words = _read(content, label, domain, features)
    _refuse_nameless(table)
    domains, labels = (_words(table, words.get(what)) for what in (DOMAIN, LABEL))
    return Rows(tuple(table.columns), domains, labels, _numbers(table))


def names_of(names: Iterable[str], label: str | None, domain: str | None, features: tuple[str, ...]) -> dict[str, str]:
    """Which column is of classes, and which of domains, where there are such; arguments as for `read_rows`."""
    names = [name for name in names if name not in features]
    found = {DOMAIN: given(DOMAIN, domain, names, "vectors") or (DOMAIN if DOMAIN in names else None)}
    if label is None or label not in names:  # rows to classify have no classes
        found[LABEL] = None if label else CLASS if CLASS in names else usual(LABEL, names)
    else:
        found[LABEL] = label
    return {what: name for what, name in found.items() if name is not None}


def _read(
    content: bytes, label: str | None, domain: str | None, features: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table, and its columns of words by what they are for."""
    import pandas as pd
    import pyarrow as pa

    try:
        if is_columnar(content):
            table = read_columnar(content).rename(columns=str)
            return table, names_of(table.columns, label, domain, features)
        sep = separator(content.partition(b"\n")[0].decode("utf-8"))
        names = pd.read_csv(io.BytesIO(content), nrows=0, encoding="utf-8", sep=sep).columns
        words = names_of(names, label, domain, features)
        marked = dict.fromkeys(words.values(), _marked)
        table = pd.read_csv(io.BytesIO(content), converters=marked, encoding="utf-8", sep=sep)
        if not isinstance(table.index, pd.RangeIndex):  # a name too few: pandas has taken the first column for it
            table.insert(0, "", 0)
        for name in words.values():
            table[name] = table[name].str.removeprefix(MARK)
    except (ValueError, pa.ArrowException, OSError) as error:  # pandas' own errors are ValueErrors
        raise MetaloomError(f"is no CSV or Parquet table ({str(error).splitlines()[0]}): fix or remove it") from None
    return table, words


def _of_arrays(content: bytes, label: str | None, domain: str | None) -> Rows:
    """An .npz with a table of numbers and its classes, or an .npy of numbers alone, such as rows to classify."""
    arrays = _arrays(content)
    tables = [name for name, each in arrays.items() if each.ndim == 2 and each.dtype.kind in "fiub"]
    if len(tables) != 1:
        raise MetaloomError(
            f"has {len(tables)} arrays of numbers (row, number), not one: "
            "np.savez(FILE, X=rows, y=classes) writes what is read here"
        )
    numbers = arrays[tables[0]].astype(np.float32)
    labels = _beside(arrays, (label,) if label else LABELS, LABEL, len(numbers))
    domains = _beside(arrays, (domain,) if domain else DOMAINS, DOMAIN, len(numbers))
    names = arrays[NAMES] if NAMES in arrays else np.arange(numbers.shape[1])
    if len(names) != numbers.shape[1]:
        raise MetaloomError(f"has {len(names)} names in `{NAMES}` for {numbers.shape[1]} numbers: give one for each")
    return Rows(tuple(map(str, names)), domains, labels, numbers)


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    try:
        if content.startswith(NPY):
            return {"X": np.asarray(np.load(io.BytesIO(content), allow_pickle=False))}
        largest = max((each.file_size for each in zipfile.ZipFile(io.BytesIO(content)).infolist()), default=0)
        if largest > LARGEST:
            raise MetaloomError(f"has an array of {largest / 2**30:.1f} GiB: split it into several files")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except MemoryError as error:  # a header may say any size
        raise MetaloomError(f"is no file of NumPy arrays that fits into memory ({error}): fix or remove it") from None
    except DAMAGED as error:
        remedy = "write classes as text, np.array(classes, str)" if "allow_pickle" in str(error) else "fix or remove it"
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise MetaloomError(f"is no file of NumPy arrays ({said}): {remedy}") from None


def _beside(arrays: dict[str, np.ndarray], names: tuple[str, ...], what: str, rows: int) -> list[str | None]:
    """A word for each row; None for each where there is no such array."""
    name = next((each for each in names if each in arrays), None) or usual(what, arrays)
    if name is None:
        return [None] * rows
    if arrays[name].shape != (rows,):
        raise MetaloomError(f"has {arrays[name].size} values in `{name}` for {rows} rows: give one for each")
    words = [str(each).strip() or None for each in arrays[name].tolist()]
    check_cells(words, name)
    return words


def _refuse_nameless(table: pd.DataFrame) -> None:
    """A line's number is such a column, and where the classes stand one after another it gives each away."""
    if any(NAMELESS.fullmatch(name) for name in table.columns):
        raise MetaloomError(
            "has a column without a name (pandas writes its index so: to_csv(index=False)): leave it out"
        )


def _marked(cell: str) -> str:
    """No word such as NA or None any more, which pandas takes for a missing value: a class may be called so."""
    return MARK + cell


def _words(table: pd.DataFrame, name: str | None) -> list[str | None]:
    """The column, which is taken out of the table; None for an empty cell, and for each where there is no column."""
    if name is None:
        return [None] * len(table)
    column = table.pop(name)
    cells = zip(column, column.notna(), strict=True)
    words = [(str(cell).strip() or None) if there else None for cell, there in cells]
    check_cells(words, name)
    return words


def _numbers(table: pd.DataFrame) -> Float32[np.ndarray, "item feature"]:
    try:
        if any(each.kind in DATES for each in table.dtypes):  # which NumPy takes for numbers
            raise TypeError
        numbers = table.to_numpy(np.float32)
    except (TypeError, ValueError):
        raise MetaloomError(f"has columns that are no numbers: {_texts(table)}; leave them out") from None
    if not numbers.shape[1]:
        raise MetaloomError("has no column of numbers: add one, or remove it")
    return numbers


def places(found: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """Where in a table the columns stand that a data set or a model has.

    Raises:
        MetaloomError: they are named otherwise.
    """
    places = {name: place for place, name in enumerate(found)}
    missing = [name for name in wanted if name not in places]
    new = places.keys() - set(wanted)
    if missing or new:
        differ = [f"{name} is missing" for name in missing] + [f"{name} is new" for name in found if name in new]
        raise MetaloomError(
            f"has other columns than the training data or the tables before it: {some(differ, SHOWN)}; "
            "give it the same names"
        )
    return [places[name] for name in wanted]


def _texts(table: pd.DataFrame) -> str:
    return ", ".join(name for name in table.columns if table[name].dtype.kind not in "biuf")
