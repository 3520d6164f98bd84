"""Data as plain folders, of now or of another revision: domain/class/file, or of rows a table for each domain."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from metaloom.config import PARAMS, Settings, load_settings
from metaloom.data.reserved import LONGEST
from metaloom.data.sources import Listing, list_sources, read_sources
from metaloom.data.walk import Item
from metaloom.errors import MetaloomError
from metaloom.kinds import Row, Tables, packing_of
from metaloom.system.files import atomic_dir
from metaloom.system.lock import STATE
from metaloom.system.provenance import DATA, POINTER
from metaloom.versioning.data import lacks_purged
from metaloom.versioning.purged import PURGED
from metaloom.versioning.revisions import Revision, at_revision, resolved

ROOM = 40  # bytes of a name that its ending, and a number where it is taken, may need


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        examples: how many.
        classes: how many they are of.
        domains: likewise.
        unreadable: where each lies that could not be read, and why.
        renamed: names of domains and classes that no folder can have, each with the one that it got.
    """

    examples: int
    classes: int
    domains: int
    unreadable: list[str]
    renamed: list[str]


def check_target(folder: Path, data: Path) -> None:
    """Look whether data can be exported there.

    Raises:
        MetaloomError: something is in it, it is no folder, or it lies in `data` or around it.
    """
    if (folder.exists() and not folder.is_dir()) or folder.is_symlink():
        raise MetaloomError(f"{folder} is no folder: name one that is empty, or not there yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise MetaloomError(f"{folder} is not empty: name another folder")
    own, other = folder.resolve(), data.resolve()
    if own == other or other in own.parents or own in other.parents:
        raise MetaloomError(f"{folder} and {data} lie in one another: name a folder elsewhere")


def export_data(listing: Listing, folder: Path) -> Exported:
    """Write all examples of a listing into a folder that is empty or not there, whole or not at all.

    Files are the same byte for byte. Of rows, a table for each domain has the columns that are read.

    Raises:
        MetaloomError: two domains or classes would have one folder.
    """
    places, renamed = _places(listing.items)
    with atomic_dir(folder) as out:
        write = _write_tables if isinstance(listing.kind, Tables) else _write_files
        unreadable = write(listing, out, places)
    domains = {item.domain for item in listing.items}
    return Exported(len(listing.items) - len(unreadable), len(places), len(domains), unreadable, renamed)


def _places(items: list[Item]) -> tuple[dict[str, PurePath], list[str]]:
    """The folder of each class, and what is called otherwise there."""
    places: dict[str, PurePath] = {}
    renamed: dict[str, str] = {}
    domains: dict[PurePath, str] = {}
    for item in items:
        if item.class_name in places:
            continue
        own = item.class_name.removeprefix(f"{item.domain}/")
        parts = [*item.domain.split("/"), own]
        safe = [_safe(part) for part in parts]
        place = places[item.class_name] = PurePath(*safe)
        if (other := domains.setdefault(place.parent, item.domain)) != item.domain:
            raise MetaloomError(
                f"the domains {other} and {item.domain} would both be {place.parent}: rename one of them"
            )
        renamed |= {old: new for old, new in zip(parts, safe, strict=True) if old != new}
    names: dict[PurePath, str] = {}
    for name, place in places.items():
        if names.setdefault(place, name) != name:
            raise MetaloomError(f"the classes {names[place]} and {name} would both be {place}: rename one of them")
    return places, [f"{old!r} → {new}" for old, new in sorted(renamed.items())]


def _safe(name: str, is_file: bool = False) -> str:
    """A name that a folder or a file can have, and that is seen when the folder is read."""
    safe = "".join("_" if c in "/\\\0" or not c.isprintable() else c for c in name) or "_"
    safe = f"_{safe[1:]}" if safe.startswith(".") else safe
    ending = PurePath(safe).suffix if is_file else ""
    ending = ending if len(ending.encode()) < ROOM // 2 else ""
    safe = safe.removesuffix(ending)
    while len(safe.encode()) > LONGEST - ROOM:
        safe = safe[:-1]
    return safe + ending


def _write_files(listing: Listing, out: Path, places: dict[str, PurePath]) -> list[str]:
    unreadable: list[str] = []
    taken: dict[PurePath, set[str]] = defaultdict(set)
    for index, content in read_sources(listing):
        item = listing.items[index]
        if isinstance(content, str):
            unreadable.append(f"{item.source} {content}")
            continue
        place = places[item.class_name]
        own = PurePath(item.member or item.file.name).name
        name = _free(PurePath(_safe(own, is_file=True)), taken[place])
        taken[place].add(name)
        (out / place).mkdir(parents=True, exist_ok=True)
        (out / place / name).write_bytes(content)
    return unreadable


def _free(name: PurePath, taken: set[str]) -> str:
    """`1.png`, and where that is taken `1-2.png`: from several archives or splits."""
    found, number = name.name, 2
    while found in taken:
        found, number = f"{name.stem}-{number}{name.suffix}", number + 1
    return found


def _write_tables(listing: Listing, out: Path, places: dict[str, PurePath]) -> list[str]:
    assert isinstance(listing.kind, Tables)
    unreadable: list[str] = []
    rows: dict[PurePath, dict[int, Row]] = defaultdict(dict)
    for index, content in read_sources(listing):
        item = listing.items[index]
        if isinstance(content, str):
            unreadable.append(f"{item.source} {content}")
            continue
        own = item.class_name.removeprefix(f"{item.domain}/")
        rows[places[item.class_name].parent][index] = Row(None, own, content)
    for place, found in rows.items():
        file = out / place.with_name(f"{place.name}.csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(listing.kind.written([row for _, row in sorted(found.items())]), encoding="utf-8", newline="")
    return unreadable


@contextmanager
def listed_at(root: Path, rev: str) -> Iterator[Listing]:
    """A copy of its data/, which goes when the block ends; nothing is checked out.

    Args:
        root: the project's root.
        rev: a commit, a branch, a tag, or a version of the model such as v0.2.0.

    Raises:
        BusyError: the remote does not answer.
        MetaloomError: there is no such revision, it has no data, some of them were purged, or they are in neither
            DVC's cache nor a remote.
    """
    (root / STATE).mkdir(exist_ok=True)
    with (
        at_revision(root, resolved(root, rev)) as revision,
        tempfile.TemporaryDirectory(prefix="export-", dir=root / STATE) as scratch,
    ):
        if not revision.data:
            raise MetaloomError(f"{rev} has no {POINTER}: its data were never made a version")
        if lacks := lacks_purged(revision.files.repo, root, revision.data):
            raise MetaloomError(f"{lacks}: export a commit after the purge (`git log --all {PURGED}`)")
        folder = revision.get(DATA, Path(scratch, DATA))
        yield list_sources(folder, packing_of(_settings(revision, Path(scratch, PARAMS))))


def _settings(revision: Revision, path: Path) -> Settings:
    """Its own, where this metaloom still reads them."""
    try:
        path.write_text(revision.files.read_text(str(PARAMS)), encoding="utf-8")
        return load_settings(path)
    except (MetaloomError, FileNotFoundError):
        return load_settings()
