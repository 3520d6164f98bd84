"""What lies in data/: domain/class/ folders of files, or files of many examples; archives wherever a folder may be."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from metaloom.data import archives
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, Tables

_SHOWN = 3


@dataclass(frozen=True)
class Item:
    """One example."""

    domain: str
    class_name: str  # f"{domain}/{the class's folder or label}"
    source: str  # path inside data/, with "!" between an archive and its member, and "#" before a row
    file: Path  # the loose file or the archive
    member: str | None
    row: int = 0  # in a file of many, from 1

    @property
    def order(self) -> tuple[str, str, str, int]:
        """By domain, class and source; rows of a file as they stand there."""
        return self.domain, self.class_name, self.source.removesuffix(f"#{self.row}"), self.row


@dataclass(frozen=True)
class Listing:
    """All that lies below `root`; `kind` knows what the first table says of all (see `kinds.Table`)."""

    root: Path
    kind: Kind
    items: list[Item]
    ignored: list[str]  # files that hold no examples
    empty: list[str]  # folders with neither folders nor examples


def list_sources(root: Path, kind: Kind, prefix: str = "") -> Listing:
    """Find every example below `root`: a file by its name, without opening it; the rows of a file of many.

    Args:
        kind: of the examples.
        root: the folder to walk, or a single archive or file.
        prefix: the place inside data/ that `root` has or is to have.

    Raises:
        MetaloomError: `root` is absent or holds no example, one lies outside any domain/class folder or has no
            label, a folder is a link, or an archive is not to be trusted (see `archives.list_archive`).
    """
    if not root.exists():
        raise MetaloomError(f"{root} not found: put {kind.layout} there")
    walk = _Walk(kind)
    if root.is_dir():
        walk.folder(root, PurePosixPath(prefix))
    else:
        walk.file(root, PurePosixPath(prefix or root.name))
    _refuse_homeless(walk.homeless, kind)
    if not walk.items:
        found = f" (only {_some(walk.ignored)})" if walk.ignored else ""
        raise MetaloomError(
            f"{root} holds no {kind.many}{found}: put {kind.layout} there ({kind.formats}; zip or tar archives too)"
        )
    items = sorted(walk.items, key=lambda item: item.order)
    return Listing(root, walk.kind, items, sorted(walk.ignored), sorted(walk.empty))


def read_sources(listing: Listing) -> Iterator[tuple[int, bytes | str]]:
    """(index into listing.items, the example's bytes or why it cannot be read), with each file and archive read once.

    For a table that is the second time: `list_sources` has read its classes.
    """
    loose: dict[Path, dict[int, int]] = defaultdict(dict)
    members: dict[Path, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for index, item in enumerate(listing.items):
        (loose[item.file] if item.member is None else members[item.file][item.member])[item.row] = index
    for file, wanted in loose.items():
        yield from _examples(_read_file(file), wanted, listing.kind)
    for archive, files in members.items():
        for name, content in archives.read_archive(archive, set(files)):
            yield from _examples(content, files[name], listing.kind)


def _examples(content: bytes | str, wanted: dict[int, int], kind: Kind) -> Iterator[tuple[int, bytes | str]]:
    """The file as it is where it is one example, else those of its rows that are wanted."""
    if isinstance(content, str) or not isinstance(kind, Tables):
        yield from ((index, content) for index in wanted.values())
    else:
        rows = enumerate(kind.table(content).rows, start=1)
        yield from ((wanted[place], row.content) for place, row in rows if place in wanted)


def _read_file(path: Path) -> bytes | str:
    try:
        if path.stat().st_size > archives.MAX_FILE_BYTES:
            return archives.too_large()
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


class _Walk:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.items: list[Item] = []
        self.ignored: list[str] = []
        self.empty: list[str] = []
        self.homeless: list[str] = []

    def folder(self, path: Path, place: PurePosixPath) -> None:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        useful = False
        for entry in entries:
            name = archives.checked_utf8(entry.name, path)
            if name.startswith("."):
                self.ignored.append(str(place / name))
            elif entry.is_dir():
                if entry.is_symlink():
                    raise MetaloomError(f"{entry.path} is a link to a folder: put the folder itself there")
                self.folder(Path(entry.path), place / name)
                useful = True
            else:
                useful |= self.file(Path(entry.path), place / name)
        if not useful and place.parts:
            self.empty.append(str(place))

    def file(self, path: Path, place: PurePosixPath) -> bool:
        stem = archives.archive_stem(place.name)
        if stem is not None:
            self._archive(path, place, stem)
        elif self.kind.is_example(place.name) and isinstance(self.kind, Tables):
            self.items += self._rows(self.kind, _read_file(path), place, str(place), path, None)
        elif self.kind.is_example(place.name):
            self._example(place, str(place), path, None)
        else:
            self.ignored.append(str(place))
            return False
        return True

    def _archive(self, path: Path, place: PurePosixPath, stem: str) -> None:
        contents = archives.list_archive(path)
        outer = place.parent.parts
        parents: set[str] = set()
        places: dict[str, PurePosixPath] = {}  # of each file of examples, as if it lay in a folder
        for name in contents.files:
            member, source = PurePosixPath(name), f"{place}!{name}"
            if any(part.startswith(".") or part == "__MACOSX" for part in member.parts):
                self.ignored.append(source)
                continue
            if not self.kind.is_example(name):
                self.ignored.append(source)
                continue
            parents.update(str(parent) for parent in member.parents)
            inner = member.parent.parts
            # an archive is a folder of its own name, unless its folders already name a domain and a class
            folders = (*outer, *inner) if len(inner) >= 2 else (*outer, stem, *inner)
            places[name] = PurePosixPath(*folders, member.name)
        self._members(path, place, places)
        leaves = set(contents.folders) - {str(PurePosixPath(folder).parent) for folder in contents.folders}
        self.empty += [f"{place}!{folder}" for folder in leaves - parents if not folder.startswith("__MACOSX")]

    def _members(self, archive: Path, at: PurePosixPath, places: dict[str, PurePosixPath]) -> None:
        """Examples in an archive; its tables in one pass, as each pass unpacks all of a .tar.gz."""
        if not isinstance(self.kind, Tables):
            for name, place in places.items():
                self._example(place, f"{at}!{name}", archive, name)
            return
        found: dict[str, list[Item]] = {}  # of two members with one name the later counts
        for name, content in archives.read_archive(archive, set(places)) if places else ():
            found[name] = self._rows(self.kind, content, places[name], f"{at}!{name}", archive, name)
        for items in found.values():
            self.items += items

    def _example(self, place: PurePosixPath, source: str, file: Path, member: str | None) -> None:
        folders = place.parent.parts
        if len(folders) < 2:
            self.homeless.append(source)
        else:
            self.items.append(Item("/".join(folders[:-1]), "/".join(folders), source, file, member))

    def _rows(
        self, kind: Tables, content: bytes | str, place: PurePosixPath, source: str, file: Path, member: str | None
    ) -> list[Item]:
        """The items of a table; the first one tells the kind what the others have to be like."""
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
            domain = row.domain or str(place.with_suffix(""))
            items.append(Item(domain, f"{domain}/{row.label}", f"{source}#{number}", file, member, number))
        return items


def _refuse_homeless(homeless: list[str], kind: Kind) -> None:
    if homeless:
        raise MetaloomError(
            f"{_some(homeless)}: each of these belongs in a class folder, and that in a domain folder or archive "
            f"({kind.layout}): move it there"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
