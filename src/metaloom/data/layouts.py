"""How files lie in folders: which part of a path names the split, the domain and the class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from metaloom.data.archives import archive_stem
from metaloom.data.given import LAYOUTS, WHOLE, Given
from metaloom.data.labels import COLUMNS, Label, LabelTable
from metaloom.errors import MetaloomError
from metaloom.system.plural import some

SPLIT_OF = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_SHOWN = 5


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


class Placed(NamedTuple):
    """What a file is an example of; `split` is that of its folder, and "" where no folder names one."""

    domain: str
    class_name: str
    split: str = ""


@dataclass
class Part:
    """A part of data/ that has one layout.

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
            f"{top or '.'}/  {count} files" + (f" in {len(folders[top])} folders" if folders[top] else "")
            for top, count in sorted(files.items())
        ]
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        return [f"{self.name or 'data'}/", *(f"  {line}" for line in lines[:_SHOWN] + more)]


def parts_of(files: Sequence[Found], tables: Sequence[LabelTable], given: Given) -> list[Part]:
    """Share files out to parts of one layout each: all of data/, or each entry of it.

    Args:
        files: of examples.
        tables: that label files.
        given: layouts by the name of an entry of data/, or "."; the others are found out.

    Raises:
        MetaloomError: a layout that was given does not fit.
    """
    stems = {archive_stem(name) or name: layout for name, layout in given.items()}
    whole = _part(files, tables)
    entry = whole.root[0] if whole.root else WHOLE
    layout = stems.get(entry) or stems.get(WHOLE) or _found_layout(whole)
    if layout != "domains" or WHOLE in stems:
        return [_with_layout(whole, layout, forced=bool({entry, WHOLE} & stems.keys()))]
    entries: dict[str, list[Found]] = defaultdict(list)
    splits = {each.path.parts[0] for each in files if each.path.parts[0].lower() in SPLIT_OF} - stems.keys()
    for each in files:
        top = each.path.parts[0]
        entries["" if top in splits and _are_splits(splits) else top].append(each)
    parts = []
    for name, own in entries.items():
        tops = {name} if name else splits
        part = _part(own, [table for table in tables if tops & {*table.folder.parts[:1]}])
        found = _found_layout(part)
        found = "domains" if found == "flat" else found  # one of several in data/
        parts.append(_with_layout(part, stems.get(name, found), forced=name in stems))
    return parts


def in_words(parts: Sequence[Part], given: bool) -> list[str]:
    """The layout with the tree that was seen; of several parts which has which.

    Args:
        parts: of data/.
        given: whether the user has said so.
    """
    lines = []
    for layout, shape in LAYOUTS.items():
        names = [part.name or "data" for part in parts if part.layout == layout]
        if names:
            of = f" ({some(names, _SHOWN)})" if len(parts) > 1 else ""
            lines.append(f"layout{'' if given else ' found'}: {layout}, {shape}{of}")
    return lines + (parts[0].tree() if len(parts) == 1 else [])


def _part(files: Iterable[Found], tables: Iterable[LabelTable]) -> Part:
    """With the folders at the front that all files share, as long as a class folder or a table is still below."""
    files, tables = list(files), list(tables)
    root: tuple[str, ...] = ()
    while files and not any(table.folder.parts == root for table in tables):
        deeper = files[0].folders[: len(root) + 1]
        shared = len(deeper) > len(root) and all(each.folders[: len(deeper)] == deeper for each in files)
        class_below = all(len(each.folders) > len(deeper) for each in files)
        if not shared or not (class_below or any(t.folder.parts[: len(deeper)] == deeper for t in tables)):
            break
        root = deeper
    return Part(root, files, tables)


def _found_layout(part: Part) -> str:
    below = [each.folders[part.depth :] for each in part.files]
    if any(table.labels for table in part.tables if table.folder.parts == part.root):
        return "table"
    tops = {folders[0] if folders else "" for folders in below}
    labelled = any(table.labels for table in part.tables)
    classes = labelled or all(len(folders) > 1 for folders in below)
    if _are_splits(tops) and classes:
        return "splits"
    is_flat = all(len(folders) == 1 for folders in below) and (part.root or len(tops) > 1)
    return "flat" if is_flat else "domains"


def _are_splits(tops: Iterable[str]) -> bool:
    kinds = [SPLIT_OF.get(top.lower()) for top in tops]
    return None not in kinds and len(set(kinds)) > 1


def _with_layout(part: Part, layout: str, forced: bool) -> Part:
    part.layout = layout
    if forced and layout == "splits" and not _are_splits({(*each.folders, "")[part.depth] for each in part.files}):
        raise MetaloomError(
            f"layout splits: {part.name or 'data'}/ is not made of folders train/, val/ (valid/, validation/) and "
            f"test/: {', '.join(part.tree()[1:3]).strip()}"
        )
    if forced and layout == "table" and not any(table.labels for table in part.tables):
        seen = [f"{table.source} has {', '.join(table.columns) or 'no columns'}" for table in part.tables]
        raise MetaloomError(
            f"layout table: {part.name or 'data'}/ has no table with the columns {COLUMNS}"
            + (f" ({'; '.join(seen)})" if seen else "")
        )
    return part


def placed(part: Part, name: str) -> list[Placed | None]:
    """What each of its files is an example of; None for one that lies outside any class, or that no table names.

    Args:
        part: with its layout.
        name: of the domain where neither a folder nor a table has one.
    """
    own = part.name or name
    if part.labelled:
        labels = {path: label for table in part.tables for path, label in table.labels.items()}
        _say_missing(part, labels)
        result = [_of_label(each, part, labels.get(each.path), own) for each in part.files]
    else:
        result = [_of_folders(each, part, own) for each in part.files]
    return _splits_or_merged(part, result) if part.layout == "splits" else result


def _of_folders(file: Found, part: Part, own: str) -> Placed | None:
    below = file.folders[part.depth :]
    if part.layout == "splits":
        top, *below = below or ("",)
        return _in(part, own, below[:-1], below[-1], SPLIT_OF[top.lower()]) if below else None
    if part.layout == "flat" and (len(below) > 1 or not part.root):
        return _in(part, own, [], below[0]) if below else None
    *above, last = file.place.parts[:-1] or ("",)
    return Placed("/".join(above), "/".join([*above, last])) if above else None


def _of_label(file: Found, part: Part, label: Label | None, own: str) -> Placed | None:
    if label is None:
        return None
    split = SPLIT_OF[file.folders[part.depth].lower()] if part.layout == "splits" else ""
    return _in(part, own, [label.domain] if label.domain else [], label.class_name, split)


def _in(part: Part, own: str, domain: Sequence[str], class_name: str, split: str = "") -> Placed:
    """A part of data/ is a domain, or the family of the domains that are named in it; all of data/ has no name then."""
    whole = "/".join([*([own] if part.root or not domain else []), *domain])
    return Placed(whole, f"{whole}/{class_name}", split)


def _say_missing(part: Part, labels: Mapping[PurePosixPath, Label]) -> None:
    """Raises MetaloomError where a table names nothing that is there."""
    there = {each.path for each in part.files}
    missing = [str(path) for path in labels if path not in there]
    source = next(table.source for table in part.tables if table.labels)
    if len(missing) == len(labels):
        raise MetaloomError(
            f"{source} names {missing[0]} and others, and none of them is there: its paths start from its own folder, "
            f"where for example {part.files[0].path} lies"
        )
    if missing:
        part.notes.append(f"{source} names {some(missing, 1)}, which is not there")


def _splits_or_merged(part: Part, result: list[Placed | None]) -> list[Placed | None]:
    """The splits as they are where their classes are others in each; else the same classes, put together."""
    classes: dict[str, set[str]] = defaultdict(set)  # of each split
    for each in filter(None, result):
        classes[each.split].add(each.class_name)
    counts = Counter(name for names in classes.values() for name in names)
    shared = {name for name, count in counts.items() if count > 1}
    own, kinds = part.name or "data", ", ".join(f"{split} ({len(names)})" for split, names in classes.items())
    if 2 * len(shared) >= min(map(len, classes.values())):
        part.notes.append(
            f"{own} has the same classes in its folders for {kinds}: they are put together class by class"
        )
        return [each and each._replace(split="") for each in result]
    part.notes.append(f"{own} has other classes in each of its folders for {kinds}: they stay the splits")
    if shared:
        some = ", ".join(sorted(shared)[:_SHOWN])
        part.notes.append(f"{some}: in several of these folders, so all of it is for training")
    # a split that is lacking is drawn from those for training
    free = {"train"} if len(classes) < len(set(SPLIT_OF.values())) else set()

    def split_of(each: Placed) -> str:
        split = "train" if each.class_name in shared else each.split
        return "" if split in free else split

    return [each and each._replace(split=split_of(each)) for each in result]
