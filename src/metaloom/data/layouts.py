"""How files lie in folders: branches of data/, each with one layout, given or found out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from metaloom.data.archives import archive_stem
from metaloom.data.given import LAYOUTS, WHOLE, Given
from metaloom.data.labels import COLUMNS, LabelTable
from metaloom.errors import MetaloomError
from metaloom.system.plural import several, some
from metaloom.system.provenance import DATA

SPLIT_OF = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
SHOWN = 5  # names in a message


class Found(NamedTuple):
    """A file of examples as it was met.

    Args:
        path: inside data/, with each archive as a folder of its own name.
        place: the same, but an archive whose folders name domain and class has no folder of its own.
        source: path inside data/ with "!" between an archive and its member.
        file: the loose file, or the archive.
        member: its name in the archive.
    """

    path: PurePosixPath
    place: PurePosixPath
    source: str
    file: Path
    member: str | None

    @property
    def folders(self) -> tuple[str, ...]:
        """That it lies in, archives among them."""
        return self.path.parts[:-1]


@dataclass
class Branch:
    """A branch of data/ that has one layout.

    Args:
        root: folders that all of it lies in.
        files: of examples.
        tables: that may label them.
        layout: one of `given.LAYOUTS`.
        notes: what was done that one may not expect, a sentence each.
    """

    root: tuple[str, ...]
    files: list[Found]
    tables: list[LabelTable]
    layout: str = "domains"
    notes: list[str] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """How many folders its root has."""
        return len(self.root)

    @property
    def name(self) -> str:
        """The folders, without one that repeats its archive's name; "" for all of data/."""
        return "/".join(name for name, _ in groupby(self.root))

    @property
    def labelled(self) -> bool:
        """Whether a table says what its files are."""
        return self.layout in ("table", "splits") and any(table.labels for table in self.tables)

    def tree(self) -> list[str]:
        """The folders at its root, the first few, with what is in them."""
        files, folders = Counter[str](), defaultdict[str, set[tuple[str, ...]]](set)
        for each in self.files:
            top, *below = each.folders[self.depth :] or [""]
            files[top] += 1
            folders[top] |= {tuple(below)} if below else set()
        lines = [
            f"{top or '.'}/  {several(count, 'file')}"
            + (f" in {several(len(folders[top]), 'folder')}" if folders[top] else "")
            for top, count in sorted(files.items())
        ]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        return [f"{self.name or 'data'}/", *(f"  {line}" for line in lines[:SHOWN] + more)]


def branches_of(files: Sequence[Found], tables: Sequence[LabelTable], given: Given) -> list[Branch]:
    """Share files out to branches of one layout each: all of data/, or each entry of it.

    Args:
        files: of examples.
        tables: that label files.
        given: layouts by the name of an entry of data/, or "."; the others are found out.

    Raises:
        MetaloomError: a layout that was given does not fit.
    """
    stems = {archive_stem(name) or name: layout for name, layout in given.items()}
    whole = _branch(files, tables)
    entry = whole.root[0] if whole.root else WHOLE
    layout = stems.get(entry) or stems.get(WHOLE) or _found_layout(whole)
    if layout != "domains" or WHOLE in stems:
        return [_with_layout(whole, layout, forced=bool({entry, WHOLE} & stems.keys()))]
    entries: dict[str, list[Found]] = defaultdict(list)
    splits = {each.path.parts[0] for each in files if each.path.parts[0].lower() in SPLIT_OF} - stems.keys()
    for each in files:
        top = each.path.parts[0]
        entries["" if top in splits and are_splits(splits) else top].append(each)
    branches = []
    for name, own in entries.items():
        tops = {name} if name else splits
        branch = _branch(own, [table for table in tables if tops & {*table.folder.parts[:1]}])
        found = _found_layout(branch)
        found = "domains" if found == "flat" else found  # one of several in data/
        branches.append(_with_layout(branch, stems.get(name, found), forced=name in stems))
    return branches


def layout_lines(branches: Sequence[Branch], given: bool) -> list[str]:
    """The layout with the tree that was seen; of several branches which has which.

    Args:
        branches: of data/.
        given: whether the user has said so.
    """
    lines = []
    for layout, shape in LAYOUTS.items():
        names = [branch.name or DATA for branch in branches if branch.layout == layout]
        if names:
            of = f" ({some(names, SHOWN)})" if len(branches) > 1 else ""
            lines.append(f"layout{'' if given else ' found'}: {layout}, {shape}{of}")
    return lines + (branches[0].tree() if len(branches) == 1 else [])


def _branch(files: Iterable[Found], tables: Iterable[LabelTable]) -> Branch:
    """A branch rooted in the front folders that all files share, with a class folder or a table still below them."""
    files, tables = list(files), list(tables)
    root: tuple[str, ...] = ()
    while files and not any(table.folder.parts == root for table in tables):
        deeper = files[0].folders[: len(root) + 1]
        shared = len(deeper) > len(root) and all(each.folders[: len(deeper)] == deeper for each in files)
        class_below = all(len(each.folders) > len(deeper) for each in files)
        if not shared or not (class_below or any(t.folder.parts[: len(deeper)] == deeper for t in tables)):
            break
        root = deeper
    return Branch(root, files, tables)


def _found_layout(branch: Branch) -> str:
    below = [each.folders[branch.depth :] for each in branch.files]
    if any(table.labels for table in branch.tables if table.folder.parts == branch.root):
        return "table"
    tops = {folders[0] if folders else "" for folders in below}
    labelled = any(table.labels for table in branch.tables)
    classes = labelled or all(len(folders) > 1 for folders in below)
    if are_splits(tops) and classes:
        return "splits"
    is_flat = all(len(folders) == 1 for folders in below) and (branch.root or len(tops) > 1)
    return "flat" if is_flat else "domains"


def are_splits(tops: Iterable[str]) -> bool:
    """Whether folders of these names are splits: train/ beside val/ or test/."""
    splits = [SPLIT_OF.get(top.lower()) for top in tops]
    return None not in splits and len(set(splits)) > 1


def _with_layout(branch: Branch, layout: str, forced: bool) -> Branch:
    branch.layout = layout
    if forced and layout == "splits" and not are_splits({(*each.folders, "")[branch.depth] for each in branch.files}):
        raise MetaloomError(
            f"layout splits: {branch.name or 'data'}/ is not made of folders train/, val/ (valid/, validation/) and "
            f"test/: {', '.join(branch.tree()[1:3]).strip()}"
        )
    if forced and layout == "table" and not any(table.labels for table in branch.tables):
        seen = [f"{table.source} has {', '.join(table.columns) or 'no columns'}" for table in branch.tables]
        raise MetaloomError(
            f"layout table: {branch.name or 'data'}/ has no table with the columns {COLUMNS}"
            + (f" ({'; '.join(seen)})" if seen else "")
        )
    return branch
