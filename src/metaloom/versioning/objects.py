"""data/ and data.dvc as DVC's objects: hashes, trees, cache. `repo` and `output` are dvc's Repo and Output."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.provenance import POINTER

DATA = "data"


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


def saved_tree(repo: Any, md5: str) -> Any | None:
    """The tree object of a version, if it and all its files are in the cache."""
    from dvc_data.hashfile import check
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    try:
        tree = Tree.load(repo.cache.local, HashInfo("md5", md5))
        check(repo.cache.local, tree)
    except (FileNotFoundError, ObjectFormatError):
        return None
    return tree


def fetch(repo: Any, output: Any) -> bool:
    """Have the version that data.dvc names in the cache, from a remote if need be; whether it is there.

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
                repo.fetch([output.stage.path])

        with suppress(FileTransferError):  # a remote that has not got all of it: asked again below
            tried_again(fetched)
    return not output.changed_cache()


def check_out(output: Any, folder: Path) -> None:
    """The files of a version that is in the cache, into an empty folder."""
    from dvc_data.hashfile.checkout import checkout
    from dvc_objects.fs.local import localfs

    checkout(str(folder), localfs, output.get_obj(), output.cache, force=True, quiet=True)


def changes(before: Any | None, after: Any) -> str:
    """`1 file added, 2 files removed` between two trees."""
    if before is None:
        return f"{count(len(after))}; those of the version before are not known here"
    old, new = ({key: oid.value for key, _, oid in tree} for tree in (before, after))
    counts = {
        "added": len(new.keys() - old.keys()),
        "modified": sum(new[key] != old[key] for key in new.keys() & old.keys()),
        "removed": len(old.keys() - new.keys()),
    }
    return ", ".join(f"{count(files)} {verb}" for verb, files in counts.items() if files)


def count(files: int) -> str:
    """`1 file`, `2 files`."""
    return f"{files} file{'s' * (files != 1)}"


def short(md5: str) -> str:
    """The first characters of a hash, for messages."""
    return md5[:8]
