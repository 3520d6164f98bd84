"""Whether an output is what the run has left there: its content is hashed now, whatever its times say."""

from __future__ import annotations

from pathlib import Path

import yaml

from metaloom.errors import MetaloomError
from metaloom.system.files import load_yaml, md5
from metaloom.system.git import committed
from metaloom.system.provenance import LOCK
from metaloom.versioning.objects import short, tree_of_hashes, whole_tree
from metaloom.versioning.project import find_root, open_project


def check_of_run(folder: Path) -> None:
    """Look before weights are used: whoever changes them changes every model that is made of them.

    A folder in no project, or that dvc.lock does not know, has no run to be of.

    Args:
        folder: of a stage's output.

    Raises:
        MetaloomError: dvc.lock of the project that the folder is in names another content for it.
    """
    folder = folder.resolve()
    try:
        root = find_root(folder)
    except MetaloomError:
        return
    named, held = _locked(root, folder.relative_to(root).as_posix()), ""
    if named and named != (held := _hash_now(folder)):
        raise MetaloomError(
            f"{folder.relative_to(root)} is not what the run has left there (its hash is {short(held)}, {LOCK} has "
            f"{short(named)}): `dvc checkout --force {folder.relative_to(root)}` restores it"
        )


def committed_file(root: Path, output: str, name: str) -> bytes | None:
    """A file in an output's folder as the last commit has it; None where DVC's cache here has not got it.

    No remote is asked: it is for what is good to know, at the end of a run.

    Raises:
        MetaloomError: the commit's dvc.lock is broken.
    """
    lock = committed(root, LOCK)
    named = _named(lock.encode(), output, root) if lock else None
    if named is None:
        return None
    with open_project(root) as repo:
        tree = whole_tree(repo, named)
        held = {"/".join(key): oid.value for key, _, oid in tree or ()}
        path = Path(repo.cache.local.oid_to_path(held[name])) if name in held else None
        return path.read_bytes() if path and path.is_file() else None


def _locked(root: Path, path: str) -> str | None:
    """The hash that dvc.lock has for an output; None where it has none."""
    try:
        return _named((root / LOCK).read_bytes(), path, root)
    except FileNotFoundError:
        return None


def _named(content: bytes, path: str, root: Path) -> str | None:
    """The hash that the content of a dvc.lock has for an output."""
    try:
        lock = load_yaml(content)
    except yaml.YAMLError as error:
        raise MetaloomError(f"{root / LOCK} is no valid YAML: {' '.join(str(error).split())}") from None
    try:
        outs = [out for stage in (lock or {}).get("stages", {}).values() for out in stage.get("outs", [])]
        return next((out["md5"] for out in outs if out["path"] == path), None)
    except (AttributeError, KeyError, TypeError):
        raise MetaloomError(f"{root / LOCK} is damaged: `metaloom doctor` puts it right") from None


def _hash_now(folder: Path) -> str:
    """As `dvc add` would give it, without DVC's memory of what it hashed before."""
    return tree_of_hashes({file.relative_to(folder).parts: md5(file) for file in folder.rglob("*") if file.is_file()})
