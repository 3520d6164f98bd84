"""What kind of example a folder, archive or file holds, and which columns are for what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from metaloom.config import PARAMS, Settings
from metaloom.data import archives, labels
from metaloom.data.doubts import asked, refuse_numbers, refuse_of_pictures
from metaloom.errors import MetaloomError
from metaloom.kinds import KINDS, Kind, Tables, kind_of, packing_of
from metaloom.kinds.columns import LABEL, SHOWN, TEXT, USUAL, AbsentColumnError, usual
from metaloom.kinds.frames import SUFFIXES, is_columnar, read_table
from metaloom.system.plural import several, some

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = "pictures"  # the kind of a project that nobody has chosen one for
LOOKED_AT = 2000  # files at most
ROWS = 300  # of a table that say what its columns are for
HEAD = 2**20  # bytes of a table of lines that are read for them
MAGIC = 32  # bytes of a file that say whether it is a picture


@dataclass(frozen=True)
class Detected:
    """What was found.

    Args:
        kind: with the columns that were found, or given, as its settings where it has such.
        columns: of a table, by what they are for; empty where there is none to look at.
        source: the table that was looked at; "" where there is none.
    """

    kind: Kind
    columns: dict[str, str]
    source: str = ""

    def in_words(self) -> str:
        """A sentence for a person."""
        if not self.columns:
            return f"kind found: {self.kind.name}"
        each = ", ".join(f"{what} in column `{name}`" for what, name in self.columns.items())
        return f"kind found: {self.kind.name} ({each} of {self.source})"


@dataclass(frozen=True)
class _File:
    source: str
    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        return (self.member or self.path.name).lower()

    def head(self, size: int) -> bytes:
        """The first bytes, without a last line that is not whole; all of a file that has to be read as one."""
        if self.member is not None:
            content = next((content for _, content in archives.read_archive(self.path, {self.member})), b"")
            return content if isinstance(content, bytes) else b""
        with self.path.open("rb") as file:
            head = file.read(size)
            if is_columnar(head):
                return head + file.read(archives.MAX_FILE_BYTES)
            return head if len(head) < size else head.rpartition(b"\n")[0]


def detect(
    path: Path, settings: Settings, given: dict[str, str], kind: str | None = None, alone: bool = False
) -> Detected | None:
    """Find out what kind of example it is; None where it holds nothing that any kind knows.

    Args:
        path: a folder, an archive or a file.
        settings: of the project: its kinds may have names of columns.
        given: names of columns that the user has given, by what they are for.
        kind: that the user has given.
        alone: whether it is looked at by itself, so that columns that the settings name need not be there.

    Raises:
        MetaloomError: it could be of several kinds, or which column is for what cannot be told; the message has what
            to type.
    """
    kinds = {name: _with(_kind(settings, name), given) for name in KINDS}
    wanted, options = _wanted(kinds, kind, given), " and ".join(f"--{what}" for what in given)
    files = list(islice(_files(path), LOOKED_AT))
    pictures = [file for file in files if _is_picture(file, kinds["pictures"])]
    tables = [file for file in files if file.name.endswith(_suffixes(wanted))]
    of_pictures = len(pictures) > len(tables) if kind is None else kind == "pictures"
    if of_pictures and "pictures" not in wanted:
        of_tables = "; or of its tables, say `--kind text` or `--kind vectors`" if tables else ""
        raise MetaloomError(
            f"pictures have no columns to name: leave out {options}; a table that says what each picture is has the "
            f"columns {labels.COLUMNS}, and the name {labels.NAMES[0]}{of_tables}"
        )
    if not wanted:
        raise MetaloomError(f"{kind} have no such column: leave out {options}")
    if "pictures" in wanted and pictures:
        if kind is None and len(_others(tables)) > len(pictures):
            raise MetaloomError(
                f"{path} holds {several(len(pictures), 'picture')} and {several(len(tables), 'table')}: "
                "say which you mean with --kind pictures, --kind text or --kind vectors"
            )
        return Detected(kinds["pictures"], {})
    if given and not tables:
        raise MetaloomError(f"{path} holds no table that has columns: leave out {options}")
    return _of_tables(tables, wanted, path, given, alone) if tables else None


def _kind(settings: Settings, name: str) -> Kind:
    return packing_of(settings) if name == settings.kind else kind_of(settings.model_copy(update={"kind": name}))


def _wanted(kinds: dict[str, Kind], kind: str | None, given: dict[str, str]) -> dict[str, Kind]:
    """The kinds that the user's options leave."""
    able = {name: each for name, each in kinds.items() if all(hasattr(each, what) for what in given)}
    return {name: each for name, each in able.items() if kind in (None, name)}


def _of_tables(tables: list[_File], kinds: dict[str, Kind], path: Path, given: dict[str, str], alone: bool) -> Detected:
    first = tables[0]
    able = [each for each in kinds.values() if isinstance(each, Tables) and first.name.endswith(each.suffixes)]
    if not first.name.endswith(SUFFIXES):  # NumPy's
        return Detected(able[0], {})
    try:
        sample = read_table(first.head(HEAD), ROWS)
        sought = [_sought(each, sample, given, alone) for each in able]
        found = [(each, columns) for each, columns in sought if columns is not None]
        if len(kinds) > 1 and TEXT not in given:
            refuse_of_pictures(sample, path, found[0][1].get(TEXT) if found else None, bool(found))
    except AbsentColumnError as error:
        if error.what not in given:
            raise MetaloomError(f"{first.source} {error}") from None
        raise MetaloomError(f"--{error.what} {error.name}: {first.source} {error.known}") from None
    except MetaloomError as error:
        raise MetaloomError(f"{first.source} {error}") from None
    except OSError as error:
        raise MetaloomError(f"{first.source} cannot be read: {error.strerror or error}") from None
    names = [str(name) for name in sample.columns]
    if not found:
        raise MetaloomError(f"{first.source} has the columns {some(names, SHOWN)}: {asked(sample, kinds, given)}")
    kind, columns = found[0]
    if TEXT in columns and getattr(kind, TEXT) is None and usual(TEXT, names) is None and "vectors" in kinds:
        refuse_numbers(sample, columns, first.source)
    if LABEL not in columns:
        raise MetaloomError(
            f"{first.source} has the columns {some(names, SHOWN)}: which one is of classes? Say it, "
            f"`metaloom data add {path} --label COLUMN`"
        )
    by_name = kind.usual_columns(names)
    own = {what: name for what, name in columns.items() if by_name.get(what) != name}
    return Detected(_with(kind, own), columns, first.source)


def _sought(
    kind: Tables, sample: pd.DataFrame, given: dict[str, str], alone: bool
) -> tuple[Tables, dict[str, str] | None]:
    """A kind and which columns it would take, without those that only the settings name where these are not there."""
    try:
        return kind, kind.columns_in(sample)
    except AbsentColumnError as error:
        if not alone or error.what in given:
            raise
        own: dict[str, Any] = {error.what: None}
        return _sought(replace(kind, **own), sample, given, alone)


def _with(kind: Kind, columns: dict[str, str]) -> Kind:
    """The kind with these names of columns, as far as it has settings for them."""
    own: dict[str, Any] = {what: name for what, name in columns.items() if hasattr(kind, what)}
    return replace(kind, **own) if isinstance(kind, Tables) else kind


def _suffixes(kinds: dict[str, Kind]) -> tuple[str, ...]:
    return tuple(suffix for each in kinds.values() if isinstance(each, Tables) for suffix in each.suffixes)


def _others(tables: list[_File]) -> list[_File]:
    """The tables without those that name files of pictures with their classes."""
    return [file for file in tables if PurePosixPath(file.name).name not in labels.NAMES]


def _is_picture(file: _File, kind: Kind) -> bool:
    if file.member is not None or file.name.endswith(kind.suffixes):
        return kind.is_example(file.name)
    try:
        return kind.is_example(file.name, file.head(MAGIC))
    except OSError:
        return False


def _files(path: Path) -> Iterator[_File]:
    """The files below a path that are not hidden, those in archives too, in order."""
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    yield from _inside(Path(folder) / name)
    else:
        yield from _inside(path)


def _inside(path: Path) -> Iterator[_File]:
    if archives.archive_stem(path.name) is None:
        if path.is_file():
            yield _File(str(path), path)
        return
    for member in sorted(archives.list_archive(path).files):
        if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(member).parts):
            yield _File(f"{path}!{member}", path, member)


def in_yaml(key: str, value: Any) -> str:
    """A setting as a line of params.yaml."""
    return f"{key}: {'null' if value is None else value}"


def changes(found: Detected, settings: Settings) -> dict[str, Any]:
    """Settings, by dotted keys, that have to be other ones for what was found."""
    kind, values = found.kind, {}
    if kind.name != settings.kind:
        values["kind"] = kind.name
        if settings.network.name == KINDS[settings.kind].network:
            values["network.name"] = kind.network
    own = getattr(settings, kind.name)
    for what in USUAL:
        if hasattr(own, what) and getattr(kind, what) != getattr(own, what):
            values[f"{kind.name}.{what}"] = getattr(kind, what)
    return values


def refuse_changes(
    values: dict[str, Any], settings: Settings, path: Path, data: Path, alone: bool, chosen: bool = False
) -> None:
    """Raises MetaloomError where settings are to be others, and the user has chosen them, or other data need them.

    Args:
        values: of `changes`.
        settings: of the project.
        path: what was looked at.
        data: the folder that it goes to.
        alone: whether it will be all that is there.
        chosen: whether the user has named the kind.
    """
    lines = " and ".join(f"`{in_yaml(key, value)}`" for key, value in values.items())
    if values and not alone:
        raise MetaloomError(
            f"{path} needs {lines} in {PARAMS}, and what is in {data} is of `kind: {settings.kind}`: "
            f"`metaloom data add {path} --only` takes that out and sets it"
        )
    if "kind" in values and settings.kind != DEFAULT and not chosen:
        raise MetaloomError(
            f"{path} holds {KINDS[values['kind']].many}, and {PARAMS} says `kind: {settings.kind}`: `--kind "
            f"{values['kind']}` writes {lines} there"
        )
