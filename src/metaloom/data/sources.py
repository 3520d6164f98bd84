"""What lies in data/: files of one example in folders, or of many examples; archives wherever a folder may be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from metaloom.data import archives
from metaloom.data.given import Given, read_given, strangers
from metaloom.data.labels import COLUMNS, NAMES
from metaloom.data.layouts import Branch, branches_of
from metaloom.data.reserved import refuse_reserved
from metaloom.data.walk import Item, Walk, read_file
from metaloom.errors import MetaloomError
from metaloom.kinds import KINDS, Kind, Tables
from metaloom.kinds.frames import SUFFIXES
from metaloom.system.plural import some

_SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """All that lies below `root`; `kind` knows what the first table says of all (see `kinds.Table`)."""

    root: Path
    kind: Kind
    items: list[Item]
    ignored: list[str]  # files that hold no examples
    empty: list[str]  # folders with neither folders nor examples
    branches: list[Branch]  # how the files of one example lie
    notes: list[str]  # what one may not expect of how they were read, a sentence each


def list_sources(root: Path, kind: Kind, prefix: str = "", given: Given | None = None) -> Listing:
    """Find every example below `root`: a file by its name or its first bytes; the rows of a file of many.

    Args:
        kind: of the examples.
        root: the folder to walk, or a single archive or file.
        prefix: the place inside data/ that `root` has or is to have.
        given: layouts (see `metaloom.data.given`) by the name of an entry of data/; None: those in layouts.yaml.

    Raises:
        MetaloomError: `root` is absent or holds no example, one lies outside any class folder or has no label, a
            layout does not fit, a folder is a link, a file is DVC's own, or an archive is not to be trusted (see
            `archives.list_archive`).
    """
    if not root.exists():
        raise MetaloomError(f"{root} not found: put {kind.layout} there")
    walk = Walk(kind)
    if root.is_dir():
        refuse_reserved(root)
        walk.folder(root, PurePosixPath(prefix))
    else:
        walk.file(root, PurePosixPath(prefix or root.name))
    walk.drop_doubted()
    given = read_given(root) if given is None else given
    branches = branches_of(walk.found, walk.tables, given) if walk.found else []
    notes = strangers(given, (each.path.parts[0] for each in walk.found))
    for branch in branches:
        walk.place(branch, root.name)
        notes += branch.notes
    _refuse_homeless(walk.homeless, walk.ignored, kind)
    notes += walk.place_rows(root.name)
    if not walk.items:
        raise MetaloomError(_nothing(root, kind, walk.ignored))
    items = sorted(walk.items, key=lambda item: item.order)
    return Listing(root, walk.kind, items, sorted(walk.ignored), sorted(walk.empty), branches, notes)


def _nothing(root: Path, kind: Kind, ignored: list[str]) -> str:
    """What to do where nothing is of the kind: another kind may be meant."""
    found = f" (only {some(ignored, _SHOWN)})" if ignored else ""
    said = f"{root} holds no {kind.many}{found}: put {kind.layout} there ({kind.formats}; zip or tar archives too)"
    others = [other for other in KINDS.values() if any(name.lower().endswith(other.suffixes) for name in ignored)]
    return said + "".join(f", or set `kind: {each.name}` in params.yaml to learn from {each.many}" for each in others)


def read_sources(listing: Listing) -> Iterator[tuple[int, bytes | str]]:
    """(index into listing.items, the example's bytes or why it cannot be read), with each file and archive read once.

    For a table that is the second time: `list_sources` has read its classes.
    """
    loose: dict[Path, dict[int, int]] = defaultdict(dict)
    members: dict[Path, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for index, item in enumerate(listing.items):
        (loose[item.file] if item.member is None else members[item.file][item.member])[item.row] = index
    for file, wanted in loose.items():
        yield from _examples(read_file(file), wanted, listing.kind)
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


def _refuse_homeless(homeless: list[str], ignored: list[str], kind: Kind) -> None:
    if homeless:
        tables = [name for name in ignored if name.lower().endswith(SUFFIXES)]
        by_table = f"; or if a table says what they are, such as {tables[0]}, call it {NAMES[0]}" if tables else ""
        raise MetaloomError(
            f"{some(homeless, _SHOWN)}: each of these belongs in a class folder, and that in a domain folder or "
            f"archive ({kind.layout}): move it there{by_table and f'{by_table}, with the columns {COLUMNS}'}"
        )
