"""data/ and data.dvc as DVC's objects: hashes, trees, cache. `repo` and `output` are dvc's Repo and Output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.files import md5, stamps
from metaloom.system.lock import BusyError
from metaloom.system.plural import several, some
from metaloom.system.provenance import DATA, POINTER

NAMED = 2  # damaged files that a message names
ATTEMPTS = 3  # at adding files that change meanwhile


def pointer(repo: Any) -> Any | None:
    """data/ as data.dvc has it; None where there is no data.dvc.

    Raises:
        MetaloomError: it names no version.
    """
    path = repo.fs.join(repo.root_dir, POINTER)
    if not repo.fs.exists(path):
        return None
    output = repo.stage.load_one(path).outs[0]
    if not output.hash_info:
        raise MetaloomError(f"{POINTER} names no version: fix it (git checkout {POINTER}) or remove it")
    return output


def hash_of(repo: Any, folder: Path) -> str:
    """The hash that `dvc add` would give the folder."""
    return tree_of(repo, folder).hash_info.value


def tree_of(repo: Any, folder: Path) -> Any:
    """The tree object (file → hash) of a folder; hashes of unchanged files come from DVC's own state."""
    from dvc_data.hashfile.build import build
    from dvc_objects.fs.local import localfs

    ignore: Any = repo.dvcignore
    return build(repo.cache.local, str(folder), localfs, "md5", ignore=ignore, dry_run=True)[2]


def add(repo: Any, folder: Path) -> Any:
    """`dvc add`: the tree object of the version that data.dvc then names, whose files are in the cache.

    Raises:
        BusyError: files go on changing while they are copied.
    """

    def added() -> Any | None:
        repo.add(str(folder))
        output = pointer(repo)
        return saved_tree(repo, output.hash_info.value) if output else None

    return _copied_whole(repo, folder, added)


def save(repo: Any, folder: Path) -> Any:
    """Copy a folder into the cache, and write no pointer to it; its tree object.

    Raises:
        BusyError: files go on changing while they are copied.
    """
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.transfer import transfer
    from dvc_objects.fs.local import localfs

    def copied() -> Any | None:
        staged, _, found = build(repo.cache.local, str(folder), localfs, "md5", ignore=repo.dvcignore)
        transfer(staged, repo.cache.local, {found.hash_info}, shallow=False)
        return saved_tree(repo, str(found.hash_info.value))

    return _copied_whole(repo, folder, copied)


def _copied_whole(repo: Any, folder: Path, copy: Callable[[], Any | None]) -> Any:
    """The tree object that `copy` gives, tried again where files changed meanwhile."""
    for _ in range(ATTEMPTS):
        before = stamps(folder)
        try:
            tree = copy()
        except FileNotFoundError:  # it was there when the folder was listed
            continue
        if tree is not None and (before == stamps(folder) or not remove_damaged(repo, tree)):
            return tree
    raise BusyError(f"{DATA}/ changes while it is read: run again when what is being copied there is whole")


def remove_damaged(repo: Any, tree: Any) -> list[str]:
    """Remove the files of a version from the cache that are not what they are named by; those files' paths.

    DVC itself trusts what lies write-protected in the cache.
    """
    return ["/".join(key) for key, _, oid in tree if not _whole(repo, oid.value)]


def _whole(repo: Any, oid: str) -> bool:
    """Whether the cache has an object, if any, that is what it is named by; one that is not is removed."""
    path = Path(repo.cache.local.oid_to_path(oid))
    if not path.exists() or md5(path) == oid.removesuffix(".dir"):
        return True
    path.unlink()
    return False


def whole_tree(repo: Any, version: str) -> Any | None:
    """The tree object of a folder's version, if it is in the cache and whole; its files need not be there."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    if not _whole(repo, version):
        return None
    try:
        return Tree.load(repo.cache.local, HashInfo("md5", version))
    except (FileNotFoundError, ObjectFormatError):
        return None


def tree_of_hashes(files: Mapping[tuple[str, ...], str]) -> str:
    """The hash that DVC gives a folder with these files, by the parts of their paths: the MD5 of dvc-data's
    `Tree.as_bytes`, without importing that for a fifth of a second."""
    entries = [{"md5": oid, "relpath": "/".join(parts)} for parts, oid in files.items()]
    text = json.dumps(sorted(entries, key=itemgetter("relpath")), sort_keys=True)
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"


def saved_tree(repo: Any, version: str) -> Any | None:
    """The tree object of a version, if it and all its files are in the cache."""
    from dvc_data.hashfile import check
    from dvc_objects.errors import ObjectFormatError

    tree = whole_tree(repo, version)
    try:
        if tree is not None:
            check(repo.cache.local, tree)
    except (FileNotFoundError, ObjectFormatError):
        return None
    return tree


def damaged_objects(cache: Path, pattern: str = "*") -> list[Path]:
    """The files of the cache that are not what they are named by; `pattern`: of their names."""
    objects = (path for path in cache.glob(f"??/{pattern}") if path.is_file() and not path.name.startswith("."))
    return [path for path in objects if path.parent.name + path.name.removesuffix(".dir") != md5(path)]


def fetch(repo: Any, output: Any) -> bool:
    """Have an output as its hash names it in the cache, from a remote if need be; whether it is there.

    Raises:
        BusyError: the remote does not answer.
        MetaloomError: it refuses, or is not there.
    """
    from dvc.exceptions import FileTransferError

    from metaloom.versioning.remotes import remote_errors, tried_again

    if not output.changed_cache():
        return True
    if repo.config["core"].get("remote"):

        def fetched() -> None:
            with remote_errors():
                repo.fetch([output.stage.addressing])

        with suppress(FileTransferError):  # a remote that has not got all of it: asked again below
            tried_again(fetched)
    return not output.changed_cache()


def check_out(output: Any, folder: Path) -> None:
    """The files of a version that is in the cache, into an empty folder.

    Raises:
        MetaloomError: some are damaged there, and no remote has them.
    """
    from dvc_data.hashfile.checkout import checkout
    from dvc_objects.fs.local import localfs

    found = remove_damaged(output.repo, output.get_obj())
    if found and not fetch(output.repo, output):
        raise MetaloomError(
            f"{some(found, NAMED)} of data version {short(output.hash_info.value)} "
            f"{'is' if len(found) == 1 else 'are'} damaged in DVC's cache, and no remote has it: add the data again"
        )
    checkout(str(folder), localfs, output.get_obj(), output.cache, force=True, quiet=True)


def changes(before: Any | None, after: Any) -> str:
    """`1 file added, 2 files removed` between two trees; how many there are where the one before is not known here."""
    if before is None:
        return several(len(after), "file")
    old, new = ({key: oid.value for key, _, oid in tree} for tree in (before, after))
    counts = {
        "added": len(new.keys() - old.keys()),
        "modified": sum(new[key] != old[key] for key in new.keys() & old.keys()),
        "removed": len(old.keys() - new.keys()),
    }
    return ", ".join(f"{several(files, 'file')} {verb}" for verb, files in counts.items() if files)


def short(version: str) -> str:
    """The first characters of a hash, for messages."""
    return version[:8]
