"""Outputs and checkpoints on their way between workers, through DVC's remote. No lock: a stage may be at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaloom.retraining.nights import TRACKED
from metaloom.system.files import atomic_file, load_yaml
from metaloom.system.lock import STATE
from metaloom.system.provenance import LOCK
from metaloom.system.terminal import say
from metaloom.versioning.project import DAG, open_project
from metaloom.versioning.remotes import remote_errors

FOLDER = "metaloom/half"  # in DVC's remote, beside its files; in it a folder for each training, named by its key
CHECKPOINTS = f"{STATE}/checkpoints"
SENT = "sent"  # in a training's folder there: the Unix time at which something was sent last


def fetch_outputs(place: Path, stage: str | None = None) -> None:
    """Have the outputs that dvc.lock names, as far as DVC's remote has them: of one stage, or of all, and with these
    what training starts from.

    Raises:
        MetaloomError: the remote refuses, or does not answer.
    """
    with dvc_remote(place) as found:
        if found is not None:
            _between(found[0], place, lambda cache, there: (there, cache), stage)
            targets = None if stage is None else [f"{place / DAG}:{stage}"]
            found[0].checkout(targets, force=True, allow_missing=True)


def send_outputs(place: Path, key: str, stage: str | None = None) -> bool:
    """Send the outputs that dvc.lock names, as far as they are here: of one stage, or of all, and with these what
    training starts from.

    Args:
        place: the workspace.
        key: of the training that they are of.
        stage: the one.

    Returns:
        Whether there is a remote to send them to.

    Raises:
        MetaloomError: the remote refuses, or does not answer.
    """
    with dvc_remote(place) as found:
        if found is not None:
            repo, fs, folder = found
            _note_sent(fs, fs.join(folder, key))
            _between(repo, place, lambda cache, there: (cache, there), stage)
        return found is not None


def take_checkpoints(place: Path, key: str, stage: str = "") -> None:
    """Have the checkpoints that another worker has left of a training.

    Those that are here already stay, unless one stage is asked for: another worker has gone on with it.

    Args:
        place: the workspace.
        key: of the training.
        stage: of a matrix, whose checkpoints begin with what stands behind its @; empty: of all.

    Raises:
        MetaloomError: the remote refuses, or does not answer.
    """
    with dvc_remote(place) as found:
        if found is None:
            return
        _, fs, folder = found
        for path in fs.find(fs.join(folder, key)):
            name = fs.relpath(path, fs.join(folder, key))
            here = place / CHECKPOINTS / name
            wanted = not stage or fs.parts(name)[0].partition(".")[0] == stage.partition("@")[2]
            if wanted and here.name != SENT and (stage or not here.exists()):
                with atomic_file(here) as temporary:
                    fs.get_file(path, str(temporary))
                say(f"another worker has left the checkpoint {here.name}: training goes on from it")


def leave_checkpoints(place: Path, key: str, sent: dict[str, Any]) -> None:
    """Send the checkpoints that are new since the last time.

    Args:
        place: the workspace.
        key: of the training that they are of.
        sent: when those that were sent were written, by their names; it is brought up to date.

    Raises:
        MetaloomError: the remote refuses, or does not answer.
    """
    fresh = {path: when for path, when in checkpoints(place) if sent.get(path.name) != when}
    if not fresh:
        return
    with dvc_remote(place) as found:
        if found is None:
            return
        _, fs, folder = found
        _note_sent(fs, fs.join(folder, key))
        for path, when in fresh.items():
            with suppress(FileNotFoundError):  # that stage has ended meanwhile
                there = fs.join(folder, key, *path.relative_to(place / CHECKPOINTS).parts)
                fs.makedirs(fs.parent(there), exist_ok=True)
                fs.put_file(str(path), there)
                sent[path.name] = when


def _note_sent(fs: Any, folder: str) -> None:
    """`clear` goes by it, so it comes first."""
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(fs.join(folder, SENT), str(int(time.time())).encode())


def checkpoints(place: Path) -> Iterator[tuple[Path, int]]:
    """Those of a workspace, and when each was written, in nanoseconds."""
    for path in sorted((place / CHECKPOINTS).rglob("*.safetensors")):
        with suppress(FileNotFoundError):
            yield path, path.stat().st_mtime_ns


@contextmanager
def dvc_remote(root: Path) -> Iterator[tuple[Any, Any, str] | None]:
    """DVC's repository, the file system of its default remote, and the folder there; None where there is no remote."""
    with open_project(root) as repo:
        if not repo.config["core"].get("remote"):
            yield None
            return
        with remote_errors():
            there = repo.cloud.get_remote()
            yield repo, there.fs, there.fs.join(there.path, *FOLDER.split("/"))


def _between(repo: Any, place: Path, way: Callable[[Any, Any], tuple[Any, Any]], stage: str | None) -> None:
    """Copy what a workspace has of DVC's between its cache and its remote: outputs, and what training starts from."""
    from dvc_data.hashfile import transfer
    from dvc_data.hashfile.hash_info import HashInfo

    source, target = way(repo.cache.local, repo.cloud.get_remote_odb())
    entries = [entry for name, entry in locked(place).items() if stage in (None, name)]
    if stage is None:
        entries.append(load_yaml(text_of(place / TRACKED)) or {})
    named = {HashInfo("md5", out["md5"]) for entry in entries for out in entry.get("outs", ())}
    there = set(source.oids_exist([each.value for each in named]))
    transfer.transfer(source, target, {each for each in named if each.value in there}, shallow=False)


def locked(place: Path) -> dict[str, Any]:
    """The stages of a workspace's dvc.lock."""
    return stages_in(text_of(place / LOCK))


def stages_in(lock: str) -> dict[str, Any]:
    """The stages of a dvc.lock's text."""
    return (load_yaml(lock) or {}).get("stages", {})


def text_of(path: Path) -> str:
    """A file's text without white space at its ends; empty where there is none."""
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
