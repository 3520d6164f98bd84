"""Whether a stage's outputs are what dvc.lock names them by.

DVC trusts what lies write-protected in its cache, and a file whose size and time are as they were. Here each file is
hashed once, and again when its size, time or inode is another.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaloom.system.files import md5, stamp, write_json
from metaloom.system.lock import STATE
from metaloom.system.plural import some
from metaloom.system.terminal import say
from metaloom.versioning.objects import NAMED, fetch, remove_damaged, tree_of_hashes, whole_tree

KNOWN = f"{STATE}/hashes.json"  # of files that were hashed before: size, time, inode and hash, by path


class Hashes:
    """MD5 of files, remembered in the project; `fresh` hashes all of them again."""

    def __init__(self, root: str | Path, fresh: bool = False) -> None:
        self._path, self._changed = Path(root, KNOWN), False
        try:
            known = {} if fresh else json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, list[Any]] = known if isinstance(known, dict) else {}

    def of(self, path: Path) -> str:
        """The hash of a file that is there."""
        now = list(stamp(path))
        *before, known = self._known.get(str(path)) or [None]
        if before != now:
            known = md5(path)
            self._known[str(path)] = [*now, known]
            self._changed = True
        return str(known)

    def save(self) -> None:
        """For the next process; where nothing can be written, it hashes them again."""
        if self._changed:
            with suppress(OSError):
                write_json(self._path, self._known)


def damaged(output: Any, hashes: Hashes) -> list[str]:
    """The files of an output (DVC's) that are not what dvc.lock names, those too that it lacks or should not have.

    Empty where it is absent or has no hash yet, and for what git keeps.
    """
    path, named = Path(output.fs_path), output.hash_info
    if not (output.use_cache and named and named.name == "md5" and path.exists()):  # not of DVC 2's other hash
        return []
    if not named.isdir:
        return [] if hashes.of(path) == named.value else [str(output)]
    there = {file.relative_to(path).parts: hashes.of(file) for file in path.rglob("*") if file.is_file()}
    if tree_of_hashes(there) == named.value:
        return []
    tree = whole_tree(output.repo, named.value)
    if tree is None:
        return [str(output)]
    named_files = {key: oid.value for key, _, oid in tree}
    other = [key for key in named_files.keys() | there.keys() if named_files.get(key) != there.get(key)]
    return sorted("/".join([str(output), *key]) for key in other)


def put_back(stage: Any, root: str | Path, fresh: bool = False) -> bool:
    """Put damaged outputs of a stage back, from DVC's cache or a remote; each is said in a line.

    Args:
        stage: DVC's, loaded from a Repo that is locked.
        root: the project's root.
        fresh: look at every file, also those that were looked at before.

    Returns:
        Whether the stage has to make some again: those are removed.
    """
    hashes, again = Hashes(root, fresh), False
    for output in stage.outs:
        files = damaged(output, hashes)
        if not files:
            continue
        how = "put back from DVC's cache or a remote"
        if not _restored(output, [Path(root, file) for file in files]):
            again, how = True, "in no cache and no remote"
            if stage.cmd:  # what a user has put there stays
                _remove(Path(output.fs_path))
                how += f", so {stage.addressing} runs"
        say(f"{some(files, NAMED)} {'is' if len(files) == 1 else 'are'} damaged: {how}")
    hashes.save()
    return again


def _restored(output: Any, files: list[Path]) -> bool:
    """What is damaged in the cache too is removed from it, so that nobody takes it again."""
    tree = whole_tree(output.repo, output.hash_info.value) if output.hash_info.isdir else None
    remove_damaged(output.repo, tree if tree is not None else [((), None, output.hash_info)])
    if not fetch(output.repo, output):
        return False
    for file in files:  # DVC takes what is there for whole
        _remove(file)
    output.obj = None
    output.checkout(force=True)
    return True


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
