"""What `metaloom data purge` is asked to take out, and what it refuses to."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from metaloom.data.archives import archive_stem
from metaloom.data.sources import Listing
from metaloom.data.walk import Item
from metaloom.errors import MetaloomError
from metaloom.system.files import md5, sha256
from metaloom.system.plural import some
from metaloom.system.provenance import DATA
from metaloom.versioning.objects import whole_tree
from metaloom.versioning.renaming import entries_of

SHOWN = 3  # names in a message


def meant(
    repo: Any, root: Path, example: str, held: dict[Path, str], listed: Callable[[], Listing]
) -> tuple[set[str], list[str], Path | None]:
    """The hashes that are meant, those of other files that older versions have at the same path, and the folder that
    is meant as a whole, or the archive."""
    if re.fullmatch(r"[0-9a-fA-F]{32}", example):
        return {example.lower()}, [], None
    if re.fullmatch(r"[0-9a-fA-F]{64}", example):
        return {_by_sha256(repo, root, example.lower(), held)}, [], None
    if "\0" in example:
        raise MetaloomError(f"{example!r} has a NUL character, which no name has")
    parts = PurePath(example).parts
    parts = parts[1:] if parts[:1] == (DATA,) and Path(DATA, *parts) not in held else parts
    if not parts or ".." in parts or PurePath(example).is_absolute():
        raise MetaloomError(f"{example!r}: give the path of one example in {DATA}/, such as domain/class/1.png")
    path = Path(DATA, *parts)
    at_path = _at_path(repo, parts)
    if path in held:
        return {held[path]}, sorted(at_path - {held[path]}), None
    if len(at_path) == 1:
        return at_path, [], None
    if at_path:
        raise MetaloomError(f"{path} was {some(sorted(at_path), SHOWN)} in older versions: name one of these hashes")
    of_row = (root / path).with_name(path.name.rpartition("#")[0] or path.name)  # a row has a name as FILE#3
    archive = next((each for each in (of_row, *(root / path).parents) if each.is_file()), None)
    if archive is not None:
        raise _inside(archive.relative_to(root), md5(archive))
    top = Path(DATA, parts[0])
    packed = [each for each in held if each.parent == Path(DATA) and top in (each.with_suffix(""), _stem(each))]
    if len(packed) == 1 and not (root / top).exists():  # an archive or a table of that domain
        if path != top:
            raise _inside(packed[0], held[packed[0]])
        return {held[packed[0]]}, [], packed[0]
    below = {oid for each, oid in held.items() if path in each.parents} | _below(repo, parts)
    if below:
        return below, [], path
    if held:
        _refuse_scattered(listed(), root, example)
    raise MetaloomError(f"there is no {path}, and no version of {DATA}/ in DVC's cache has it")


def _stem(path: Path) -> Path:
    return path.with_name(archive_stem(path.name) or path.name)


def _at_path(repo: Any, parts: tuple[str, ...]) -> set[str]:
    """The hashes that folders in DVC's cache have at a path: those of data/ among them."""
    return {oid for key, oid in _in_versions(repo, parts[-1]) if key == parts}


def _below(repo: Any, parts: tuple[str, ...]) -> set[str]:
    """The hashes that they have below a path."""
    return {oid for key, oid in _in_versions(repo, parts[-1]) if key[: len(parts)] == parts and len(key) > len(parts)}


def _in_versions(repo: Any, name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and hash of each file of the folders in DVC's cache in which a name occurs."""
    spelled = [json.dumps(name, ensure_ascii=plain)[1:-1].encode(errors="replace") for plain in (True, False)]
    for path in Path(repo.cache.local.path).glob("??/*.dir"):
        if any(each in path.read_bytes() for each in spelled):
            for key, _, oid in whole_tree(repo, path.parent.name + path.name) or ():
                yield key, oid.value


def _by_sha256(repo: Any, root: Path, wanted: str, held: dict[Path, str]) -> str:
    for path, oid in held.items():
        if sha256(root / path) == wanted:
            return oid
    for path in Path(repo.cache.local.path).glob("??/*"):
        if path.suffix != ".dir" and path.is_file() and sha256(path) == wanted:
            return path.parent.name + path.name
    raise MetaloomError(f"{wanted}: no file in {DATA}/ or DVC's cache has this SHA-256")


def refuse_last(listing: Listing, files: list[Path], root: Path, oid: str) -> None:
    """Raises MetaloomError where one is no single example, or the last one of its class."""
    own = {root / file for file in files}
    there = [item for item in listing.items if item.file.absolute() in own]
    for item in there:
        if item.member is not None or item.row:
            raise _inside(Path(DATA, item.file.relative_to(listing.root)), oid)
    left = Counter(item.class_name for item in listing.items if item.file.absolute() not in own)
    for item in there:
        if not left[item.class_name]:
            whole = _of_class(item, listing)
            raise MetaloomError(
                f"{files[0]} is the last example of {item.class_name}: `metaloom data remove {whole}` takes the class "
                f"out, then `metaloom data purge {oid}` the example out of all that still has it"
            )


def _refuse_scattered(listing: Listing, root: Path, name: str) -> None:
    """Raises MetaloomError where it is a domain or a class, and no folder of its own holds all of it."""
    folders = [path.relative_to(root) for path in entries_of(root, listing, name)]
    if folders:
        each = "each of them" if len(folders) > 1 else "that"
        raise MetaloomError(f"{name} lies in {some(list(map(str, folders)), SHOWN)}: purge {each}")


def refuse_all(listing: Listing, files: list[Path], root: Path, folder: Path) -> None:
    """Raises MetaloomError where a class or a domain is the last one of its domain or of data/, or where another class
    would have no example left, as they are the same files."""
    own = {root / file for file in files}
    there = [item for item in listing.items if item.file.absolute() in own]
    left = [item for item in listing.items if item.file.absolute() not in own]
    within = [item for item in there if (root / folder) in (item.file.absolute(), *item.file.absolute().parents)]
    if there and not left:
        raise MetaloomError(
            f"{folder} is all that {DATA}/ has: put other data in its place with `metaloom data add PATH --only`, then "
            f"`metaloom data purge {folder.relative_to(DATA)}` takes it out of all that still has it"
        )
    classes, inside = {item.class_name for item in left}, {item.class_name for item in within}
    for item in there:
        if item.class_name not in classes | inside:
            raise MetaloomError(
                f"the last examples of {item.class_name} are the same files as some of {folder}: `metaloom data remove "
                f"{item.class_name}` takes the class out first"
            )
    a_class = within and all(item.file.absolute().parent == root / folder for item in within)
    if a_class and within[0].domain not in {item.domain for item in left}:
        raise MetaloomError(
            f"{folder} is the last class of {within[0].domain}: "
            f"`metaloom data purge {folder.parent.relative_to(DATA)}` takes out the whole domain"
        )


def _of_class(item: Item, listing: Listing) -> Path | str:
    """What to remove for a class to be gone: its folder, or where a table names it its last file."""
    labelled = (branch for branch in listing.branches if branch.labelled)
    by_table = any(item.file == found.file for branch in labelled for found in branch.files)
    return item.file.relative_to(listing.root) if by_table else item.class_name


def _inside(file: Path, oid: str) -> MetaloomError:
    return MetaloomError(
        f"{file} holds many examples: make it again without the one, add it with `metaloom data add --replace`, then "
        f"`metaloom data purge {oid}` takes the file as it is now out of all that still has it"
    )
