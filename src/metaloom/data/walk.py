"""The walk through a folder of examples and its archives: what each file is, and which example is of which class."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from metaloom.data import archives, labels, placing
from metaloom.data.given import FILE
from metaloom.data.labels import LabelTable, read_labels
from metaloom.data.layouts import Branch, Found
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, Tables
from metaloom.system.plural import some

_SHOWN = 3
_HEAD = 32  # bytes at the beginning of a file that say what it is


@dataclass(frozen=True)
class Item:
    """One example."""

    domain: str
    class_name: str  # f"{domain}/{the class's folder or label}"
    source: str  # path inside data/, with "!" between an archive and its member, and "#" before a row
    file: Path  # the loose file or the archive
    member: str | None
    row: int = 0  # in a file of many, from 1
    split: str = ""  # that data/ itself has its class in, by a folder train/, validation/ or test/

    @property
    def order(self) -> tuple[str, str, str, int]:
        """By domain, class and source; rows of a file as they stand there."""
        return self.domain, self.class_name, self.source.removesuffix(f"#{self.row}"), self.row


class Walk:
    """Finds examples file by file; the items of each are known when `place` and `place_rows` have been called."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.items: list[Item] = []
        self.rows: list[tuple[PurePosixPath, list[Item]]] = []  # of each table, with its place
        self.found: list[Found] = []
        self.tables: list[LabelTable] = []
        self.ignored: list[str] = []
        self.empty: list[str] = []
        self.homeless: list[str] = []

    def folder(self, path: Path, place: PurePosixPath) -> None:
        """Look at all that lies in a folder and below it; `place` is where it is in data/."""
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        useful = False
        for entry in entries:
            name = archives.checked_utf8(entry.name, path)
            if name == FILE and not place.parts:
                continue
            if name.startswith("."):
                self.ignored.append(str(place / name))
            elif _is_folder(entry):
                if entry.is_symlink():
                    raise MetaloomError(f"{entry.path} is a link to a folder: put the folder itself there")
                self.folder(Path(entry.path), place / name)
                useful = True
            elif entry.is_symlink() or entry.is_file():  # a link that leads nowhere is an example that cannot be read
                useful |= self.file(Path(entry.path), place / name)
            else:  # a pipe, say, on which reading waits for ever
                self.ignored.append(str(place / name))
        if not useful and place.parts:
            self.empty.append(str(place))

    def file(self, path: Path, place: PurePosixPath) -> bool:
        """Look at a file; returns whether it is of any use."""
        stem = archives.archive_stem(place.name)
        if stem is not None:
            self._archive(path, place, stem)
        elif isinstance(self.kind, Tables):
            if not self.kind.is_example(place.name):
                self.ignored.append(str(place))
                return False
            self.rows.append((place, self._rows(self.kind, read_file(path), str(place), path, None)))
        elif place.name in labels.NAMES:
            self._labels(read_file(path), place.parent, str(place))
        elif self.kind.is_example(place.name) or self.kind.is_example(place.name, _head(path)):
            self.found.append(Found(place, place, str(place), path, None))
        else:
            self.ignored.append(str(place))
            return False
        return True

    def _archive(self, path: Path, place: PurePosixPath, stem: str) -> None:
        contents = archives.list_archive(path)
        outer = place.parent.parts
        visible, hidden = [], []
        for name in contents.files:
            parts = PurePosixPath(name).parts
            (hidden if any(part.startswith(".") or part == "__MACOSX" for part in parts) else visible).append(name)
        examples, others = self._sorted(path, visible)
        self.ignored += [f"{place}!{name}" for name in (*hidden, *others)]
        parents: set[str] = set()
        found: dict[str, Found] = {}
        for name in examples:
            member = PurePosixPath(name)
            parents.update(str(parent) for parent in member.parents)
            inner = member.parent.parts
            # an archive is a folder of its own name, unless its folders already name a domain and a class
            folders = (*outer, *inner) if len(inner) >= 2 else (*outer, stem, *inner)
            own = PurePosixPath(*outer, stem, name)
            found[name] = Found(own, PurePosixPath(*folders, member.name), f"{place}!{name}", path, name)
        self._members(path, place, found)
        leaves = set(contents.folders) - {str(PurePosixPath(folder).parent) for folder in contents.folders}
        self.empty += [f"{place}!{folder}" for folder in leaves - parents if not folder.startswith("__MACOSX")]

    def _sorted(self, archive: Path, names: list[str]) -> tuple[list[str], list[str]]:
        """Files of examples and tables that label them, and the other files of an archive."""
        known = {name for name in names if self.kind.is_example(name)}
        if isinstance(self.kind, Tables):
            return [name for name in names if name in known], [name for name in names if name not in known]
        known |= {name for name in names if PurePosixPath(name).name in labels.NAMES}
        unclear = {name for name in names if name not in known}
        heads = archives.read_heads(archive, unclear, _HEAD) if unclear else ()
        known |= {name for name, head in heads if self.kind.is_example(name, head)}
        return [name for name in names if name in known], [name for name in names if name not in known]

    def _members(self, archive: Path, at: PurePosixPath, found: dict[str, Found]) -> None:
        """What an archive holds; its tables in one pass, as each pass unpacks all of a .tar.gz."""
        if not isinstance(self.kind, Tables):
            tables = {name for name in found if PurePosixPath(name).name in labels.NAMES}
            self.found += [each for name, each in found.items() if name not in tables]
            for name, content in archives.read_archive(archive, tables) if tables else ():
                self._labels(content, found[name].path.parent, found[name].source)
            return
        rows: dict[str, list[Item]] = {}  # of two members with one name the later counts
        for name, content in archives.read_archive(archive, set(found)) if found else ():
            rows[name] = self._rows(self.kind, content, f"{at}!{name}", archive, name)
        self.rows += [(found[name].place, items) for name, items in rows.items()]

    def _labels(self, content: bytes | str, folder: PurePosixPath, source: str) -> None:
        if isinstance(content, str):
            raise MetaloomError(f"{source} {content}: fix or remove it")
        self.tables.append(read_labels(content, folder, source))
        if not self.tables[-1].labels:
            self.ignored.append(source)

    def drop_doubted(self) -> None:
        """Take no word from tables that are of something else."""
        there = {found.path for found in self.found}
        for table in self.tables:
            if table.labels and table.doubted(there):
                table.labels.clear()
                self.ignored.append(table.source)

    def place(self, branch: Branch, name: str) -> None:
        """The items of a branch of data/ whose layout is known; `name` stands for a domain that has none."""
        unnamed = []
        for found, placed in zip(branch.files, placing.placed(branch, name), strict=True):
            if placed is None:
                (unnamed if branch.labelled else self.homeless).append(found.source)
            else:
                domain, class_name, split = placed
                self.items.append(Item(domain, class_name, found.source, found.file, found.member, split=split))
        if unnamed:
            self.ignored += unnamed
            branch.notes.append(
                f"{some(unnamed, _SHOWN)}: in no row of the table of {branch.name or name}, so left out"
            )

    def place_rows(self, name: str) -> list[str]:
        """The items of all tables, now that it is known which of these are parts of one; what that means, in words.

        `name` stands for a domain that has none.
        """
        notes = []
        for table in placing.whole_tables([place for place, _ in self.rows], name):
            items = [(item, split) for place, split in table.parts for item in self.rows[place][1]]
            placed = [placing.of_row(table.domain, item.domain, item.class_name, split) for item, split in items]
            if table.has_splits:
                said, placed = placing.splits_or_merged(table.domain, placed)
                notes += said
            self.items += [
                replace(item, domain=each.domain, class_name=each.class_name, split=each.split)
                for (item, _), each in zip(items, placed, strict=True)
                if each is not None
            ]
        return notes

    def _rows(self, kind: Tables, content: bytes | str, source: str, file: Path, member: str | None) -> list[Item]:
        """The items of a table, without a place; the first one tells the kind what the others have to be like."""
        if isinstance(content, str):
            large = content == archives.too_large()
            remedy = "split it into several files, each with a column `domain`" if large else "fix or remove it"
            raise MetaloomError(f"{source} {content}: {remedy}")
        try:
            self.kind, rows = kind.table(content)
        except MetaloomError as error:
            raise MetaloomError(f"{source} {error}") from None
        items = []
        for number, row in enumerate(rows, start=1):
            if not row.label:
                raise MetaloomError(f"{source}, row {number}, has no class: name it in a column `class`")
            items.append(Item(row.domain or "", row.label, f"{source}#{number}", file, member, number))
        return items


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to one another
        return False


def read_file(path: Path) -> bytes | str:
    """The content of a file, or in words why it cannot be read."""
    try:
        if path.stat().st_size > archives.MAX_FILE_BYTES:
            return archives.too_large()
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""
