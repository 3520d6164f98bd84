"""A user's own files of examples of any kind, read one by one and refused by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, Row, Tables
from metaloom.kinds.columns import DOMAIN, AbsentColumnError


class Example(NamedTuple):
    """One example of a file.

    Args:
        source: the file; FILE#3 is the third of a file that holds many.
        label: its class, where the file says it.
        raw: as the kind decodes it, of any size.
        sha256: of the bytes that it was read from: those of the file, or of its row in one that holds many.
    """

    source: str
    label: str | None
    raw: Shaped[np.ndarray, ...]
    sha256: str = ""


def read_examples(path: str | Path, kind: Kind, on_bad: Callable[[MetaloomError], None] | None = None) -> list[Example]:
    """Decode a file's example, or all its rows where it holds many.

    Args:
        path: of the file.
        kind: of its examples.
        on_bad: gets the error of a row that cannot be decoded, and the others are read all the same; None: it is
            raised.

    Raises:
        MetaloomError: the file cannot be read, or holds an example that cannot; the message names it.
    """
    path = Path(path)
    content = _read(path, kind)
    if not isinstance(kind, Tables):
        return [_example(kind, str(path), None, content)]
    try:
        rows = _rows(kind, content)
    except MetaloomError as error:
        raise MetaloomError(f"{path} {error}") from None
    if not rows:
        raise MetaloomError(f"{path} has no {kind.many}")
    rows = [row._replace(domain=row.domain or path.stem) for row in rows]
    several = len({row.domain for row in rows}) > 1  # classes of two domains may have one name
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(_example(kind, f"{path}#{number}", _label(row, several), row.content))
        except MetaloomError as error:
            if on_bad is None:
                raise
            on_bad(error)
    return found


def read_argument(
    argument: str | Path, kind: Kind, on_bad: Callable[[MetaloomError], None] | None = None
) -> list[Example]:
    """The examples of a file, or those that an argument of the command line is in itself (see `Kind.spelled`).

    Args:
        argument: of the command line.
        kind: of its examples.
        on_bad: as of `read_examples`.

    Raises:
        MetaloomError: as `read_examples`.
    """
    spelled = kind.spelled(str(argument))
    if spelled is None:
        return read_examples(argument, kind, on_bad)
    return [_example(kind, name, None, content) for name, content in spelled]


def fitting(example: Example, shape: tuple[int | str, ...], kind: Kind) -> Shaped[np.ndarray, ...]:
    """The raw example, where a model takes examples of this shape (names stand for any size).

    Raises:
        MetaloomError: it has another.
    """
    found = example.raw.shape
    if len(found) != len(shape) or any(isinstance(s, int) and s != f for s, f in zip(shape, found, strict=True)):
        sizes, wanted = (" x ".join(map(str, each)) for each in (found, shape))
        raise MetaloomError(f"{example.source}: its size is {sizes}, this model takes {kind.many} of {wanted}")
    return example.raw


def _rows(kind: Tables, content: bytes) -> list[Row]:
    """A table's rows: a user's own file need not have the column of domains that the settings name for data/."""
    try:
        return kind.table(content).rows
    except AbsentColumnError as error:
        if error.what != DOMAIN:
            raise
    return replace(kind, **{DOMAIN: None}).table(content).rows


def _label(row: Row, several: bool) -> str | None:
    return f"{row.domain}/{row.label}" if several and row.label else row.label


def _example(kind: Kind, source: str, label: str | None, content: bytes) -> Example:
    try:
        raw = kind.decode(content)
    except MetaloomError as error:
        raise MetaloomError(f"{source} {error}") from None
    return Example(source, label, raw, hashlib.sha256(content).hexdigest())


def _read(path: Path, kind: Kind) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MetaloomError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise MetaloomError(
            f"{path} is a folder; name files of {kind.many}, for example {path}/*{kind.suffixes[0]}"
        ) from None
    except (OSError, ValueError) as error:  # a name with NUL is a ValueError
        raise MetaloomError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
