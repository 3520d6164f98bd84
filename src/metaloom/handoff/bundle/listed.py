"""Which files `metaloom predict` is to classify: as they are named, in folders, or listed on standard input."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.kinds import Kind
from metaloom.python.folder import is_visible
from metaloom.system.files import special
from metaloom.system.plural import some

STDIN = "-"
SHOWN = 3  # names in a message
_HEAD = 32  # bytes at the beginning of a file that say what it is


def listed(
    arguments: Iterable[str], kind: Kind, stdin: Iterable[bytes], on_skipped: Callable[[str], None]
) -> Iterator[str | Path]:
    """The files one by one, as they are asked for.

    Args:
        arguments: files; folders, of which all examples below count; "-" for names on standard input; texts themselves.
        kind: of the examples.
        stdin: with a name on each line, or names that end in a NUL.
        on_skipped: gets a sentence about the files of a folder that are no examples.

    Raises:
        MetaloomError: a folder has no examples, or standard input names none.
    """
    for argument in arguments:
        if argument == STDIN:
            yield from _some(_names(stdin))
        elif _is_folder(argument):
            yield from _below(Path(argument), kind, on_skipped)
        else:
            yield argument


def _is_folder(argument: str) -> bool:
    try:
        return Path(argument).is_dir()
    except OSError:  # a text of more characters than a name may have
        return False


def _some(names: Iterator[str]) -> Iterator[str]:
    first = next(names, None)
    if first is None:
        raise MetaloomError("standard input names no file: give one per line, or ended by NUL as find -print0 does")
    yield first
    yield from names


def _names(stdin: Iterable[bytes]) -> Iterator[str]:
    for line in stdin:
        for name in line.rstrip(b"\r\n").split(b"\0"):
            if name:
                yield os.fsdecode(name)


def _below(folder: Path, kind: Kind, on_skipped: Callable[[str], None]) -> Iterator[Path]:
    """Examples in a folder and in the folders in it, by name; links to folders are not followed."""
    found, others = 0, []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if is_visible(Path(name)))
        for path in (Path(place, name) for name in sorted(names)):
            if not is_visible(path):
                continue
            if special(path):  # on which reading would wait for ever
                others.append(str(path))
            elif kind.is_example(path.name) or kind.is_example(path.name, _head(path)):
                found += 1
                yield path
            else:
                others.append(str(path))
    if not found:
        seen = f" (only {some(others, SHOWN)})" if others else ""
        raise MetaloomError(f"{folder} has no {kind.many}{seen}: give a folder with {kind.formats} files")
    if others:
        on_skipped(f"{folder}: {some(others, SHOWN)} skipped, as no {kind.one} is in there")


def _head(path: Path) -> bytes:
    if not path.is_file():  # a pipe, say, on which reading waits for ever
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""
