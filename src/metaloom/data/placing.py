"""What each file of a branch is an example of: domain and class by its path, or by its row in a table."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from metaloom.data.labels import Label
from metaloom.data.layouts import SHOWN, SPLIT_OF, Branch, Found, are_splits
from metaloom.errors import MetaloomError
from metaloom.system.plural import some
from metaloom.system.provenance import DATA

NUMBERED = re.compile(r"(.*?)-?\d{5}-of-\d{5}(?:-[0-9a-f]+)?")  # a part of a table
WHOLE_SET = ("", DATA)  # what comes before the number where the folder has the name


class Placed(NamedTuple):
    """What a file is an example of; `split` is that of its folder, and "" where no folder names one."""

    domain: str
    class_name: str
    split: str = ""


def placed(branch: Branch, name: str) -> list[Placed | None]:
    """What each of its files is an example of; None for one that lies outside any class, or that no table names.

    Args:
        branch: with its layout.
        name: of the domain where neither a folder nor a table has one.
    """
    own = branch.name or name
    if branch.labelled:
        labels = _labels(branch)
        _say_missing(branch, labels)
        result = [_of_label(each, branch, labels.get(each.path), own) for each in branch.files]
    else:
        result = [_of_folders(each, branch, own) for each in branch.files]
    if branch.layout != "splits":
        return result
    notes, result = splits_or_merged(branch.name or DATA, result)
    branch.notes += notes
    return result


def _labels(branch: Branch) -> dict[PurePosixPath, Label]:
    """What all tables of a branch say; raises MetaloomError where two disagree."""
    labels: dict[PurePosixPath, Label] = {}
    for table in branch.tables:
        for path, label in table.labels.items():
            known = labels.get(path, label)
            if known.class_name != label.class_name or (known.domain and label.domain not in ("", known.domain)):
                ours, theirs = ("/".join(filter(None, each)) for each in (label, known))
                raise MetaloomError(
                    f"{table.source} has {path} in {ours}, and another table in {theirs}: remove one of the two tables"
                )
            labels[path] = known if known.domain else label
    return labels


def _of_folders(file: Found, branch: Branch, own: str) -> Placed | None:
    below = file.folders[branch.depth :]
    if branch.layout == "splits":
        top, *below = below or ("",)
        return _in(branch, own, below[:-1], below[-1], SPLIT_OF[top.lower()]) if below else None
    if branch.layout == "flat" and (len(below) > 1 or not branch.root):
        return _in(branch, own, [], below[0]) if below else None
    *above, last = file.place.parts[:-1] or ("",)
    return Placed("/".join(above), "/".join([*above, last])) if above else None


def _of_label(file: Found, branch: Branch, label: Label | None, own: str) -> Placed | None:
    if label is None:
        return None
    split = SPLIT_OF[file.folders[branch.depth].lower()] if branch.layout == "splits" else ""
    return _in(branch, own, [label.domain] if label.domain else [], label.class_name, split)


def _in(branch: Branch, own: str, domain: Sequence[str], class_name: str, split: str = "") -> Placed:
    """A branch is a domain, or the family of the domains that are named in it; all of data/ has no name then."""
    whole = "/".join([*([own] if branch.root or not domain else []), *domain])
    return Placed(whole, f"{whole}/{class_name}", split)


def _say_missing(branch: Branch, labels: Mapping[PurePosixPath, Label]) -> None:
    """Raises MetaloomError where a table names nothing that is there."""
    there = {each.path for each in branch.files}
    missing = [str(path) for path in labels if path not in there]
    source = next(table.source for table in branch.tables if table.labels)
    if len(missing) == len(labels):
        raise MetaloomError(
            f"{source} names {missing[0]} and others, and none of them is there: its paths start from its own folder, "
            f"where for example {branch.files[0].path} lies"
        )
    if missing:
        be = "is" if len(missing) == 1 else "are"
        branch.notes.append(f"{source} names {some(missing, 1)}, which {be} not there")


def splits_or_merged(own: str, result: Sequence[Placed | None]) -> tuple[list[str], list[Placed | None]]:
    """The splits as they are where their classes are others in each; else the same classes, put together.

    Args:
        own: what holds the splits, for what is said.
        result: with the split that each lies in.

    Returns:
        A sentence for each thing that was decided, and the result.
    """
    classes: dict[str, set[str]] = defaultdict(set)  # of each split
    for each in filter(None, result):
        classes[each.split].add(each.class_name)
    counts = Counter(name for names in classes.values() for name in names)
    shared = {name for name, count in counts.items() if count > 1}
    kinds = ", ".join(f"{split} ({len(names)})" for split, names in classes.items())
    if 2 * len(shared) >= min(map(len, classes.values())):
        note = f"{own} has the same classes in its folders for {kinds}: they are put together class by class"
        return [note], [each and each._replace(split="") for each in result]
    notes = [f"{own} has other classes in each of its folders for {kinds}: they stay the splits"]
    if shared:
        notes.append(f"{some(sorted(shared), SHOWN)}: in several of these folders, so all of it is for training")
    # a split that is lacking is drawn from those for training
    free = {"train"} if len(classes) < len(set(SPLIT_OF.values())) else set()

    def split_of(each: Placed) -> str:
        split = "train" if each.class_name in shared else each.split
        return "" if split in free else split

    return notes, [each and each._replace(split=split_of(each)) for each in result]


class WholeTable(NamedTuple):
    """Tables that are parts of one.

    Args:
        domain: that rows belong to which name none.
        parts: places in the list of all tables, with the split that each is; "" for none.
    """

    domain: str
    parts: list[tuple[int, str]]

    @property
    def has_splits(self) -> bool:
        """Whether its parts are splits."""
        return any(split for _, split in self.parts)


def whole_tables(places: Sequence[PurePosixPath], name: str) -> list[WholeTable]:
    """Put together numbered parts of a table as Hugging Face writes them, and train, validation and test.

    Args:
        places: of the tables, inside data/.
        name: of the domain where nothing else is left of a place.
    """
    paths = [_without_number(place) for place in places]
    beside: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in paths:
        for depth, part in enumerate(path):
            beside[path[:depth]].add(part)
    found: dict[str, WholeTable] = {}
    for number, path in enumerate(paths):
        depth = next((depth for depth in range(len(path)) if are_splits(beside[path[:depth]])), None)
        split = "" if depth is None else SPLIT_OF[path[depth].lower()]
        rest = path if depth is None else path[:depth] + path[depth + 1 :]
        domain = "/".join(rest) or name
        found.setdefault(domain, WholeTable(domain, [])).parts.append((number, split))
    return list(found.values())


def of_row(own: str, domain: str, label: str, split: str) -> Placed:
    """What a row is an example of: its own domain, if it has one, or that of its table."""
    return Placed(domain or own, f"{domain or own}/{label}", split)


def _without_number(place: PurePosixPath) -> tuple[str, ...]:
    """Folders and name of a table; of `train-00000-of-00002` the part before the number, of `data-…` none."""
    *folders, name = place.with_suffix("").parts
    numbered = NUMBERED.fullmatch(name)
    if numbered is None:
        return (*folders, name)
    return (*folders, *([numbered[1]] if numbered[1] not in WHOLE_SET else []))
