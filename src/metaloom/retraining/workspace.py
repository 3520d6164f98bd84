"""The worktree that a retraining works in: at a commit, with the project's DVC cache."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from metaloom.config import PARAMS, load_settings
from metaloom.config.editing import write_params
from metaloom.errors import MetaloomError
from metaloom.retraining.git import asked, file_at, git, submodules
from metaloom.retraining.nights import DAY, FOLDER, RECORDS, Night
from metaloom.retraining.taking import SPLITS, pointer_to
from metaloom.system.files import load_yaml, size_of, write_text
from metaloom.system.lock import STATE
from metaloom.system.provenance import DATA, LOCK, POINTER, data_version
from metaloom.system.quantities import size
from metaloom.versioning.project import open_project
from metaloom.versioning.remotes import remote_errors

READY = f"{STATE}/ready"  # in a workspace: it is whole
SHARED = ("graphs", "times", "flow-runs")  # of the project's own state: what is kept by content, and who runs flows


def open_workspace(root: Path, night: Night) -> Path:
    """Make a retraining's worktree, or find it as a run before has left it.

    Returns:
        The project's root in it.

    Raises:
        MetaloomError: the disk has too little room, git refuses, or DVC does.
    """
    folder = night.workspace(root)
    place = folder / asked(root, "rev-parse", "--show-prefix")
    if (place / READY).is_file() and asked(place, "rev-parse", "HEAD") == night.base:
        return place
    check_room(root)
    remove(root, folder)
    git(root, "worktree", "add", "--quiet", "--force", "--force", "--detach", str(folder), night.base)
    top = asked(root, "rev-parse", "--show-toplevel")
    _put_submodules(Path(top), folder, night.base)
    _same_cache(root, place)
    (place / STATE).mkdir(exist_ok=True)
    for name in SHARED:
        (root / STATE / name).mkdir(exist_ok=True)
        with suppress(FileExistsError):
            (place / STATE / name).symlink_to((root / STATE / name).resolve())
    if night.data and data_version(place) != night.data:
        write_text(
            place / POINTER, file_at(root, night.past, POINTER) + "\n" if night.past else pointer_to(root, night.data)
        )
    if night.changed:
        write_params(place / PARAMS, night.changed)
        load_settings(place / PARAMS)
    if night.splits and night.splits != file_at(place, "HEAD", SPLITS):
        write_text(place / SPLITS, night.splits.rstrip("\n") + "\n")
    with open_project(place, lock=True) as repo, remote_errors():
        repo.checkout(force=True, allow_missing=True)
    write_text(place / READY, "")
    return place


def _put_submodules(here: Path, there: Path, commit: str) -> None:
    """Files of the submodules, from those of the checkout: git leaves their folders empty in a worktree.

    Args:
        here: a repository with its submodules.
        there: where its own files of that commit are.
        commit: of it.

    Raises:
        MetaloomError: a submodule is not checked out, or lacks the commit that is wanted.
    """
    for path, wanted in submodules(here, commit).items():
        own = here / path
        if not (own / ".git").exists() or not _has(own, wanted):
            raise MetaloomError(
                f"the submodule {path} has no commit {wanted[:8]} here: `git submodule update --init --recursive`"
            )
        with tempfile.TemporaryDirectory() as index:
            file = str(Path(index, "index"))
            git(own, "read-tree", wanted, GIT_INDEX_FILE=file)
            git(own, "checkout-index", "--all", "--force", f"--prefix={there / path}/", GIT_INDEX_FILE=file)
        _put_submodules(own, there / path, wanted)


def _has(repository: Path, commit: str) -> bool:
    """Whether it has the commit, or its remote has."""
    words = ("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if not asked(repository, *words):
        asked(repository, "fetch", "--quiet")
    return bool(asked(repository, *words))


def _same_cache(root: Path, place: Path) -> None:
    """The workspace's DVC has the project's cache and remotes, with credentials that only this checkout has."""
    from configobj import ConfigObj

    with open_project(root) as repo:
        remotes = {name: dict(options) for name, options in repo.config["remote"].items()}
        core = {"remote": repo.config["core"]["remote"]} if repo.config["core"].get("remote") else {}
        cache = {"dir": repo.cache.local_cache_dir}
        if kinds := repo.config["cache"].get("type"):
            cache["type"] = ",".join(kinds)
    file = place / ".dvc/config.local"
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))  # credentials may be in it
    config: Any = ConfigObj(encoding="utf-8")  # DVC's own writer takes ASCII alone, and paths may be in any letters
    config.update({"cache": cache, "core": core})
    for name, options in remotes.items():
        options.pop("verify", None)  # of ours, not of a user's
        config[f'remote "{name}"'] = {key: str(value) for key, value in options.items()}
    with file.open("wb") as opened:
        config.write(opened)


def check_room(root: Path) -> None:
    """Refuse where the disk cannot hold data and outputs again, in the workspace and in the cache.

    Raises:
        MetaloomError: it says how much is missing.
    """
    free, wanted = shutil.disk_usage(root).free, room_for(root)
    if free < wanted:
        raise MetaloomError(
            f"the disk has {size(free)} left, and a retraining takes about {size(wanted)}: free some, for example with "
            "`metaloom gc`, or set retrain.keep to 0"
        )


def room_for(root: Path) -> int:
    """Bytes: data/ and all outputs of the last run, once in the workspace and once in the cache."""
    lock = root / LOCK
    try:
        stages = (load_yaml(lock.read_bytes()) or {}).get("stages", {}).values() if lock.is_file() else ()
        outputs = sum(int(out.get("size", 0)) for stage in stages for out in stage.get("outs", ()))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):  # conflicts, which are the user's: data alone count
        outputs = 0
    return 2 * (outputs + (size_of(root / DATA) if (root / DATA).is_dir() else 0))


def remove(root: Path, folder: Path) -> None:
    """Take a workspace away, whole or half made; commits stay."""
    with suppress(MetaloomError):
        git(root, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    git(root, "worktree", "prune")


def clear(root: Path, kept: int, days: float, busy: set[str], now: float | None = None) -> list[str]:
    """Take old workspaces away.

    Args:
        root: the project's.
        kept: so many of the newest stay.
        days: and of those none that is older.
        busy: names of retrainings that go on in theirs.
        now: Unix time.

    Returns:
        The names of those that went.
    """
    folder, now = root / FOLDER, time.time() if now is None else now
    own = {RECORDS.rsplit("/", 1)[1], STATE}
    there = [each for each in folder.iterdir() if each.is_dir() and each.name not in own] if folder.is_dir() else []
    there = sorted((each for each in there if each.name not in busy), key=lambda each: each.stat().st_mtime)
    old = [each for each in there if now - each.stat().st_mtime > days * DAY]
    gone = [each for each in there if each in old or each in there[: len(there) - kept]]
    for each in gone:
        remove(root, each)
    return [each.name for each in gone]


@contextmanager
def its_own_code(place: Path) -> Iterator[None]:
    """Stages run the code of the workspace's commit, where the project carries the tool's own code."""
    if not (place / "src/metaloom").is_dir():
        yield
        return
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place / "src"), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
