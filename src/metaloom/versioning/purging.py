"""Take an example, a class or a domain out of data/, DVC's cache and the remotes, so that no old version has it any
more either."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloom.data.given import read_given, write_given
from metaloom.data.sources import Listing
from metaloom.errors import MetaloomError
from metaloom.system.files import md5
from metaloom.system.git import holds_blob
from metaloom.system.lock import STATE, BusyError
from metaloom.system.plural import several, some
from metaloom.system.provenance import DATA, data_version
from metaloom.versioning import removing, renaming
from metaloom.versioning.data import DataVersion, data_lock, refuse_behind, version_data
from metaloom.versioning.gc import shared_cache
from metaloom.versioning.holding import Holders, holders_of
from metaloom.versioning.meant import SHOWN, meant, refuse_all, refuse_last
from metaloom.versioning.objects import short, tree_of
from metaloom.versioning.packed import Packed, packed_before, refuse_packed, told_packed
from metaloom.versioning.project import open_project
from metaloom.versioning.purged import note_purged
from metaloom.versioning.reached import unreached
from metaloom.versioning.remotes import remote_errors

LEFTOVERS = (removing.STAGING, renaming.STAGING)  # in `STATE`: what a killed command may have left
UNSEEN = {".git", ".venv", "__pycache__"}  # folders in which nobody looks for copies
Listed = Callable[[], Listing]


@dataclass(frozen=True)
class Purge:
    """An example, or all of a class or a domain, and what holds it.

    Args:
        oids: the hashes that DVC gives the files.
        folder: of the class or the domain, from the project's root; None: it is one example.
        files: in data/, from the project's root.
        cached: whether DVC's cache has any of it.
        remotes: names of those that have any of it.
        holders: versions of data/ and of the model that are of it.
        copies: other files of the workspace that are the same.
        in_git: how many of the files git itself has.
        other: hashes of other files that were at the same path in older versions.
        data: the version that data/ held then; empty where it was absent.
        shared: DVC's cache, where it lies outside of the project.
        packed: archives of older versions that have it inside.
    """

    oids: list[str]
    folder: Path | None
    files: list[Path]
    cached: bool
    remotes: list[str]
    holders: Holders
    copies: list[Path]
    in_git: int
    other: list[str]
    data: str
    shared: Path | None
    packed: tuple[Packed, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether anything is left to take it out of."""
        return bool(self.files or self.cached or self.remotes)


def find_purge(root: Path, example: str, listed: Listed) -> Purge:
    """Look where an example is, and take nothing out.

    Args:
        root: the project's root.
        example: a path in data/, as it is now or was in an older version: of an example, or of a class or a domain as
            a whole; or the MD5 or SHA-256 of a file.
        listed: lists data/.

    Raises:
        BusyError: a remote does not answer.
        MetaloomError: nothing holds it, it is not one example and no class and no domain, its class or domain or data/
            has no other, or data/ is not what data.dvc names.
    """
    with data_lock(root), open_project(root, lock=True) as repo:
        refuse_behind(repo, root)
        tree = _tree(repo, root)
        held = {Path(DATA, *key): oid.value for key, _, oid in tree or ()}
        oids, other, folder = meant(repo, root, example, held, listed)
        refuse_packed(root, set(oids))
        files = sorted(path for path, each in held.items() if each in oids)
        if files and folder is not None:
            refuse_all(listed(), files, root, folder)
        elif files:
            refuse_last(listed(), files, root, min(oids))
        contents = _contents(repo, root, held, oids)
        remotes = list(_remotes(repo))
        found = Purge(
            sorted(oids),
            folder,
            files,
            any(_cached(repo, oid) for oid in oids),
            [name for name, odb in remotes if any(_has(odb, oid) for oid in oids)],
            holders_of(repo, root, oids),
            list(_copies(root, contents, _stores(repo, root, [odb for _, odb in remotes]))),
            sum(holds_blob(root, path.read_bytes()) for path in contents.values()),
            other,
            _version(tree),
            shared_cache(repo, root),
            tuple(packed_before(repo, root, set(oids))),
        )
    if not found.is_there:
        raise MetaloomError(f"{example}: neither {DATA}/ nor DVC's cache nor a remote holds it")
    return found


def purge(root: Path, found: Purge, listed: Listed) -> DataVersion | None:
    """Take it out; killed midway, the same again by its hash, or by the folder's path, does the rest.

    Args:
        root: the project's root.
        found: what `find_purge` has found.
        listed: lists data/, as it is at that moment.

    Returns:
        The new version of data/; None where `data.dvc` names it already.

    Raises:
        BusyError: a remote does not answer.
        MetaloomError: data/ is another one now, the rest of it could not be used, or a remote refuses.
    """
    with data_lock(root):
        with open_project(root, lock=True) as repo:
            refuse_behind(repo, root)
            if _version(_tree(repo, root)) != found.data:
                raise MetaloomError(f"{DATA}/ has changed meanwhile: nothing was purged, give the command again")
        _take_out(root, found, listed)
        for name in LEFTOVERS:
            shutil.rmtree(root / STATE / name, ignore_errors=True)
        behind = bool(found.data) and data_version(root) != found.data  # a purge was killed before it came to that
        version = version_data(root) if found.files or behind else None
        with open_project(root, lock=True) as repo:
            remove_objects(repo, found.oids)
        return version


def remove_objects(repo: Any, oids: list[str]) -> None:
    """Remove files from DVC's cache and from every remote.

    Raises:
        BusyError: a remote does not answer; from the cache and the others they are gone then.
        MetaloomError: a remote refuses.
    """
    for path in (path for oid in oids for path in _cached(repo, oid)):
        path.unlink()
    away: BusyError | None = None
    for name in repo.config["remote"]:
        try:
            odb = _remote(repo, name)
        except BusyError as error:
            away = error
            continue
        with remote_errors():
            for oid in oids:
                if odb.exists(oid):
                    odb.fs.remove(odb.oid_to_path(oid))
    if away is not None:
        raise away


def objects_held(repo: Any, oids: list[str]) -> dict[str, list[str]]:
    """Of these files those that DVC's cache and each remote that answers have, by its name."""
    found = {"DVC's cache": [oid for oid in oids if _cached(repo, oid)]}
    for name in repo.config["remote"]:
        if not unreached(repo, name):
            odb = repo.cloud.get_remote_odb(name)
            found[f"remote {name}"] = [oid for oid in oids if _has(odb, oid)]
    return {where: held for where, held in found.items() if held}


def _take_out(root: Path, found: Purge, listed: Listed) -> None:
    """Out of data/, if the rest can be used; noted before the last copy goes."""
    staging = root / STATE / removing.STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    places = {root / file: staging / str(number) for number, file in enumerate(found.files)}
    try:
        for file, place in places.items():
            file.rename(place)
        if found.files:
            _check_rest(found.folder or found.files[0], listed)
        note_purged(root, found.oids)
    except BaseException:
        for file, place in places.items():
            if os.path.lexists(place):
                place.rename(file)
        raise
    if found.folder is not None:
        _tidy(root, found.folder)


def _tidy(root: Path, folder: Path) -> None:
    """Its empty folders go, and the layout that was given for it."""
    data = root / DATA
    for place, _, _ in os.walk(root / folder, topdown=False):
        with suppress(OSError):  # something that is not versioned is still in there
            Path(place).rmdir()
    given = read_given(data)
    if folder.parent == Path(DATA) and folder.name in given and not (root / folder).exists():
        write_given(data, {entry: layout for entry, layout in given.items() if entry != folder.name})


def _check_rest(file: Path, listed: Listed) -> None:
    try:
        listed()
    except MetaloomError as error:
        raise MetaloomError(f"without {file} the rest could not be used: {error}") from None


def _tree(repo: Any, root: Path) -> Any | None:
    """The tree object of data/, if it is there."""
    return tree_of(repo, root / DATA) if (root / DATA).is_dir() else None


def _version(tree: Any | None) -> str:
    return "" if tree is None else str(tree.hash_info.value)


def _cached(repo: Any, oid: str) -> list[Path]:
    """Its files in DVC's cache, also where DVC 2 kept it."""
    paths = [Path(odb.oid_to_path(oid)) for odb in (repo.cache.local, repo.cache.legacy)]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def _remotes(repo: Any) -> Iterator[tuple[str, Any]]:
    """Each with its name.

    Raises:
        BusyError: one does not answer.
    """
    for name in repo.config["remote"]:
        yield name, _remote(repo, name)


def _remote(repo: Any, name: str) -> Any:
    if trouble := unreached(repo, name):
        raise BusyError(f"remote {name} does not answer ({trouble}), and may hold it: see its url, login and network")
    return repo.cloud.get_remote_odb(name)


def _has(odb: Any, oid: str) -> bool:
    with remote_errors():
        return bool(odb.exists(oid))


def _stores(repo: Any, root: Path, remotes: list[Any]) -> set[Path]:
    """Folders in which purging looks by hash: data/, DVC's cache, remotes that are folders."""
    local = [odb for odb in remotes if odb.fs.protocol == "local"]
    return {root / DATA, *(Path(odb.path).absolute() for odb in (repo.cache.local, repo.cache.legacy, *local))}


def _contents(repo: Any, root: Path, held: dict[Path, str], oids: set[str]) -> dict[str, Path]:
    """A file with the content of each hash that is here."""
    found = {oid: root / path for path, oid in held.items() if oid in oids and (root / path).is_file()}
    return found | {oid: paths[0] for oid in oids - found.keys() if (paths := _cached(repo, oid))}


def _copies(root: Path, contents: dict[str, Path], elsewhere: set[Path]) -> Iterator[Path]:
    """Files of the workspace that are the same byte for byte, beside those in some folders."""
    sizes = {path.stat().st_size for path in contents.values()}
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in UNSEEN and Path(place, name) not in elsewhere]
        for path in (Path(place, name) for name in names):
            if path.is_file() and path.stat().st_size in sizes and md5(path) in contents:
                yield path.relative_to(root)


def told(found: Purge) -> Iterator[str]:
    """Where the example is, and what was made of it, a line each."""
    if found.folder is None:
        yield f"hash: {found.oids[0]}"
        yield from (f"in {file}" for file in found.files)
    else:
        yield f"{several(len(found.oids), 'file')}, by hash: {some(found.oids, SHOWN)}"
        yield from _places(found.files)
    if found.cached:
        yield "in DVC's cache"
        if found.shared:
            yield f"DVC's cache {found.shared} lies outside of this project: others that use it lose the file too"
    yield from (f"in the remote {name}" for name in found.remotes)
    holders = found.holders
    if holders.versions:
        yield (
            f"in versions of {DATA}/ that can then not be checked out whole any more: "
            f"{some([short(each) for each in holders.versions], SHOWN)} (named by {holders.commits} of the commits "
            "that changed data.dvc)"
        )
    yield from _made_of(holders)
    same = "is the same file" if found.folder is None else "is the same as one of the files"
    yield from (f"not purged, remove it yourself: {path} {same}" for path in found.copies)
    if found.in_git:
        what = "the file" if found.folder is None else several(found.in_git, "of the files", "of the files")
        yield f"not purged: git itself has {what}, which only rewriting its history removes (git filter-repo)"
    yield from (f"not purged: {oid} is another file that an older version has at this path" for oid in found.other)
    yield from told_packed(found.packed)


def _places(files: list[Path]) -> Iterator[str]:
    """How many are in each folder."""
    for folder, count in sorted(Counter(file.parent for file in files).items()):
        yield f"in {folder}: {several(count, 'file')}"


def _made_of(holders: Holders) -> Iterator[str]:
    made = [*(f"version {each}" for each in holders.models), *holders.names]
    if made:
        yield (
            f"not purged: models and bundles of {', '.join(made)} were made with it; their packed data sets, and the "
            "pictures in their bundles and reports, may show it"
        )
    if holders.here:
        yield "not purged: data set, models, bundle and report that are here; the next `metaloom run` makes them again"
    if holders.unknown:
        yield (
            f"not known: {holders.unknown} older versions of {DATA}/ are not in DVC's cache (`dvc fetch --all-commits`)"
        )
