"""Give a domain or a class in data/ another name, or put it into another one: a new version; splits.yaml follows.

What data/ was is in DVC's cache before anything is moved.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from metaloom.data.archives import archive_stem
from metaloom.data.given import read_given, write_given
from metaloom.data.layouts import SPLIT_OF
from metaloom.data.reserved import check_name
from metaloom.data.sources import Listing
from metaloom.data.walk import Item
from metaloom.errors import MetaloomError
from metaloom.system.files import md5, write_text
from metaloom.system.lock import STATE
from metaloom.system.plural import some
from metaloom.system.provenance import DATA
from metaloom.tasks.kept import SPLITS_FILE, add_renamed, drop_renamed
from metaloom.versioning.data import DataVersion, data_lock, version_data

SHOWN = 5  # names in a message
STAGING = "renaming"  # in `STATE`: files of which the target has the same
Listed = Callable[[], Listing]
Parts = tuple[str, ...]


@dataclass(frozen=True)
class Renamed:
    """What was done.

    Args:
        old: name of the domain or class, as `metaloom data list` has it.
        new: name of it, or of that which it is part of now.
        version: of data/, the new one.
        splits: whether splits.yaml had the old name.
        notes: what one may not expect, a sentence each.
    """

    old: str
    new: str
    version: DataVersion
    splits: bool
    notes: list[str] = field(default_factory=list)


def rename_in_data(root: Path, old: str, new: str, listed: Listed) -> Renamed:
    """Give a domain, or a class, another name.

    Args:
        root: the project's root.
        old: the domain, or domain/class.
        new: its name, alone or with the same folders in front as `old`.
        listed: lists data/, as it is at that moment.

    Raises:
        MetaloomError: there is no such thing, the name is none or taken, or what holds it cannot be renamed.
    """
    with data_lock(root):
        listing = listed()
        old = found_name(old, listing.items)
        *above, own = old.split("/")
        *said, name = new.removesuffix("/").split("/")
        if said and said != above:
            raise MetaloomError(f"{new}: a new name is for {own} alone, what is in front of it stays: give {name!r}")
        check_name(name, "")
        if archive_stem(name) is not None:
            raise MetaloomError(f"{name!r} ends like the name of an archive: give another name")
        new = "/".join([*above, name])
        if new == old:
            raise MetaloomError(f"{old} has that name")
        if _is_there(new, listing.items):
            raise MetaloomError(f"{new} is there already: `metaloom data merge {old} {new}` puts both together")
        moves = _entries(root / DATA, listing, old, new)
        for target in moves.values():
            if target.exists() or target.is_symlink():
                raise MetaloomError(f"{target.relative_to(root)} is there already: remove it, or give another name")
        domain = {item.class_name: item.domain for item in listing.items}.get(old)
        return _moved(root, listing, old, new, domain, list(moves.items()), listed)


def merge_in_data(root: Path, source: str, target: str, listed: Listed) -> Renamed:
    """Put all examples of a domain, or of a class, into another one; classes of one name become one.

    Args:
        root: the project's root.
        source: the domain, or domain/class, that is gone then.
        target: another one.
        listed: lists data/, as it is at that moment.

    Raises:
        MetaloomError: there is no such thing, they are one or one in the other, one is a class and the other a domain,
            or they do not lie in folders.
    """
    with data_lock(root):
        listing = listed()
        source, target = (found_name(name, listing.items) for name in (source, target))
        if source == target:
            raise MetaloomError(f"{source} and {target} are one: give two")
        if f"{source}/".startswith(f"{target}/") or f"{target}/".startswith(f"{source}/"):
            raise MetaloomError(f"{source} and {target} lie in one another: give two that lie beside one another")
        classes = {item.class_name: item.domain for item in listing.items}
        if (source in classes) != (target in classes):
            one, other = (source, target) if source in classes else (target, source)
            raise MetaloomError(f"{one} is a class and {other} a domain: give two classes, or two domains")
        data = root / DATA
        entries = [*_entries(data, listing, source, target).items(), *_entries(data, listing, target, target).items()]
        if files := [entry for entry, _ in entries if not entry.is_dir()]:
            raise MetaloomError(
                f"{files[0].relative_to(root)} is one file, and merging puts folders together: change that file "
                "itself, and add it again with `metaloom data add --replace`"
            )
        moves = [(entry, to) for entry, to in entries if entry != to]
        both = classes.keys() & {f"{target}{name.removeprefix(source)}" for name in classes if _below(name, source)}
        done = _moved(root, listing, source, target, classes.get(target), moves, listed)
        if source not in classes and both:
            names = [name.removeprefix(f"{target}/") for name in sorted(both)]
            done.notes.append(f"both had a class {some(names, SHOWN)}: each is one class now")
        return done


def found_name(name: str, items: Sequence[Item]) -> str:
    """A domain, a family of domains or a class by its name as `metaloom data list` has it, also with data/ in front.

    Raises:
        MetaloomError: there is none.
    """
    wanted = name.removesuffix("/")
    for each in (wanted, wanted.removeprefix(f"{DATA}/")):
        if each and _is_there(each, items):
            return each
    domains = sorted({item.domain for item in items})
    raise MetaloomError(
        f"there is no domain or class {name!r}: there are the domains {some(domains, SHOWN)} "
        "(`metaloom data list` shows all, `metaloom data list DOMAIN` its classes)"
    )


def entries_of(root: Path, listing: Listing, name: str) -> list[Path]:
    """The folders and files of a domain or a class; none where there is no such domain or class.

    Raises:
        MetaloomError: it is there by a table, and no folder has its name.
    """
    wanted = name.removesuffix("/")
    for each in (wanted, wanted.removeprefix(f"{DATA}/")):
        if each and _is_there(each, listing.items):
            return list(_entries(root / DATA, listing, each, each))
    return []


def _is_there(name: str, items: Sequence[Item]) -> bool:
    return any(_below(each, name) for item in items for each in (item.domain, item.class_name))


def _below(name: str, above: str) -> bool:
    return f"{name}/".startswith(f"{above}/")


def _swapped(name: str, old: str, new: str) -> str:
    return new + name.removeprefix(old) if _below(name, old) else name


def _entries(data: Path, listing: Listing, old: str, new: str) -> dict[Path, Path]:
    """Folders and files that have the old name, and where they go.

    Raises:
        MetaloomError: an example's class is not named by a folder, or by the file that it is in.
    """
    found: dict[Path, Path] = {}
    for item in listing.items:
        if not (_below(item.class_name, old) or _below(item.domain, old)):
            continue
        *folders, last = item.file.relative_to(listing.root).parts
        packed = item.member is not None or item.row > 0
        ending = last.removeprefix(archive_stem(last) or PurePath(last).stem) if packed else ""
        spelled = (*folders, last.removesuffix(ending)) if packed else tuple(folders)
        both = _spelling(spelled, tuple(old.split("/")), tuple(new.split("/")))
        if both is None:
            raise _elsewhere(item, listing, old, packed)
        whole = packed and len(both[0]) == len(spelled)
        here, there = (data.joinpath(*parts[:-1], parts[-1] + (ending if whole else "")) for parts in both)
        found[here] = there
    return found


def _spelling(spelled: Parts, old: Parts, new: Parts) -> tuple[Parts, Parts] | None:
    """The front folders that spell the old name, and those of the new one; a folder of a split may stand between."""
    bare = old[0] == new[0] == DATA and len(old) > 1  # where data/ itself is the domain
    for before, after in [(old, new), *([(old[1:], new[1:])] if bare else [])]:
        size = len(before)
        if spelled[:size] == before:
            return before, after
        for place, part in enumerate(spelled[: size + 1]):
            rest = spelled[:place] + spelled[place + 1 : size + 1]
            if part.lower() in SPLIT_OF and rest == before:
                return spelled[: size + 1], (*after[:place], part, *after[place:])
    return None


def _elsewhere(item: Item, listing: Listing, old: str, packed: bool) -> MetaloomError:
    file = Path(DATA) / item.file.relative_to(listing.root)
    if packed:
        return MetaloomError(
            f"{old} lies inside {file}: change that file itself, and add it again with `metaloom data add --replace`"
        )
    tables = [table.source for branch in listing.branches if branch.labelled for table in branch.tables]
    named = f"a table names it ({some(tables, SHOWN)}): change it there" if tables else "rename what holds it by hand"
    return MetaloomError(f"{old} is no folder of its own in {DATA}/, as {file} shows: {named}")


def _moved(
    root: Path,
    listing: Listing,
    old: str,
    new: str,
    domain: str | None,
    moves: list[tuple[Path, Path]],
    listed: Listed,
) -> Renamed:
    """Move, look whether data/ then is what it is to be, and make it the new version; else all stays as it was.

    Args:
        domain: of the class that `new` is; None where it is a domain.
    """
    wanted = {_expected(item, old, new, domain) for item in listing.items}
    version_data(root)  # as it was, it stays in the cache

    def renamed(name: str) -> str:
        return _swapped(name, old, new)

    splits = root / SPLITS_FILE
    with _put_back(splits), _given_carried(root / DATA, moves):
        notes = add_renamed(splits, renamed)  # both names, for as long as data/ may have either
        with _all_moved(root, moves) as left_out:
            try:
                items = listed().items
            except MetaloomError as error:
                raise MetaloomError(f"with {old} as {new} the data could not be used: {error}") from None
            if {(item.domain, item.class_name) for item in items} != wanted or len(items) + left_out < len(
                listing.items
            ):
                raise MetaloomError(
                    f"with {old} as {new} other files would be read in another way: all stays as it was; change its "
                    f"folders in {DATA}/ by hand, `metaloom data check` says how they are read"
                )
    had = drop_renamed(splits, renamed)
    version = version_data(root)
    shutil.rmtree(root / STATE / STAGING, ignore_errors=True)
    if left_out:
        notes.append(f"{left_out} of the files were in {new} already, with the same name and content")
    return Renamed(old, new, version, had, notes)


def _expected(item: Item, old: str, new: str, domain: str | None) -> tuple[str, str]:
    """Domain and class of an example afterwards."""
    class_name = _swapped(item.class_name, old, new)
    if domain is not None and item.class_name == old:
        return domain, class_name
    return _swapped(item.domain, old, new), class_name


@contextmanager
def _put_back(path: Path) -> Iterator[None]:
    """A text file as it was, where the block raises."""
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    try:
        yield
    except BaseException:
        if before is not None:
            write_text(path, before)
        raise


@contextmanager
def _given_carried(data: Path, moves: list[tuple[Path, Path]]) -> Iterator[None]:
    """The layouts that were given stay those of what is moved: for both names first, as either may be there."""
    given = read_given(data)
    own = {here.name: there for here, there in moves if here.parent == data and here.name in given}
    if not own:
        yield
        return
    kept = {name: layout for name, layout in given.items() if name not in own}
    at_top = {name: there for name, there in own.items() if there.parent == data and not there.exists()}
    new = {there.name: given[name] for name, there in at_top.items()}
    try:
        write_given(data, new | given)
        yield
        write_given(data, new | kept)
    except BaseException:
        write_given(data, given)
        raise


@contextmanager
def _all_moved(root: Path, moves: list[tuple[Path, Path]]) -> Iterator[int]:
    """Every folder or file in its new place, and how many were left out; back in the old one where the block raises."""
    staging, done = root / STATE / STAGING, list[tuple[Path, Path]]()
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)

    def move(here: Path, there: Path) -> None:
        there.parent.mkdir(parents=True, exist_ok=True)
        here.rename(there)
        done.append((here, there))

    try:
        for here, there in moves:
            for file, place in list(_into(here, there, here.name)):
                move(file, place)
            if here.exists():  # what the target has already
                move(here, staging / str(len(done)))
        left_out = sum(path.is_file() for path in staging.rglob("*"))
        yield left_out
    except BaseException:
        for here, there in reversed(done):
            here.parent.mkdir(parents=True, exist_ok=True)
            there.rename(here)
        raise
    for here, _ in moves:
        _remove_empty(here.parent, root / DATA)


def _into(source: Path, target: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """What to move where: as a whole where nothing is there, else file by file, under a free name with `name` in it."""
    if not target.exists():
        yield source, target
        return
    inside = sorted(source.iterdir())
    taken = {each.name for each in (*target.iterdir(), *inside)}
    for each in inside:
        there = target / each.name
        if each.is_dir() and (there.is_dir() or not there.exists()):
            yield from _into(each, there, name)
        elif not there.exists():
            yield each, there
        elif not (each.is_file() and there.is_file() and md5(each) == md5(there)):
            free = _free(each, name, taken)
            taken.add(free)
            yield each, target / free


def _free(file: Path, source: str, taken: set[str]) -> str:
    """`1-alpha.png`, and where that is taken `1-alpha-2.png`."""
    number = 1
    while (name := f"{file.stem}-{source}{f'-{number}' if number > 1 else ''}{file.suffix}") in taken:
        number += 1
    return name


def _remove_empty(folder: Path, data: Path) -> None:
    """A folder of which nothing is left, and those above it likewise."""
    while folder != data and data in folder.parents and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
