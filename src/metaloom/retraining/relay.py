"""Half-done training in the remotes: where a worker's machine is gone, another goes on from there.

Checkpoints and the outputs of finished stages go to DVC's remote. What git keeps of these stages, dvc.lock above all,
is a commit that a ref names. The process that sends them is one of its own: DVC's repository is not for two threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaloom.config import PARAMS, load_settings
from metaloom.errors import MetaloomError
from metaloom.retraining.clones import handover
from metaloom.retraining.committing import make_commit, stage_results
from metaloom.retraining.git import asked, file_at, git, remote_of
from metaloom.retraining.nights import DAY, Night, nights
from metaloom.system import lifeline
from metaloom.system.files import atomic_file, load_yaml
from metaloom.system.lock import STATE
from metaloom.system.plural import some
from metaloom.system.provenance import LOCK
from metaloom.system.terminal import say
from metaloom.versioning.project import open_project
from metaloom.versioning.remotes import remote_errors

REFS = "refs/metaloom/half"  # of what is half done, by the key of what it starts from
FOLDER = "metaloom/half"  # in DVC's remote, beside its files
CHECKPOINTS = f"{STATE}/checkpoints"
INDEX = f"{STATE}/relay-index"
SENT = "sent"  # in a training's folder there: the Unix time at which something was sent last
FEW = 4  # stages in a message


@contextmanager
def relayed(root: Path, place: Path, night: Night, force: bool) -> Iterator[None]:
    """Go on from what another worker has left of the same training, and leave for others what is done meanwhile.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining.
        force: nothing is gone on from.
    """
    minutes = handover(root)
    if minutes is None:
        yield
        return
    if not force:
        try:
            take(root, place, night)
        except MetaloomError as error:
            say(f"what another worker may have left could not be had: {error}")
    settings = load_settings(root / PARAMS).retrain
    try:
        clear(root, settings.keep, settings.keep_days, {each.key for each in nights(root) if not each.outcome})
    except MetaloomError as error:
        say(f"what is left of older training could not be cleared away: {error}")
    if not minutes:
        yield
        return
    command = ["-m", "metaloom.retraining.relay", str(root), str(place), night.name, str(60 * minutes)]
    sender = lifeline.start(command, cwd=root, env=dict(os.environ), out=subprocess.DEVNULL, err=None)
    try:
        yield
    finally:
        lifeline.stop(sender)


def take(root: Path, place: Path, night: Night) -> None:
    """Have what another worker has left; in a workspace where something was done already, only checkpoints.

    Raises:
        MetaloomError: a remote refuses, or does not answer.
    """
    ref, remote = f"{REFS}/{night.key}", remote_of(root)
    fresh = file_at(place, "HEAD", LOCK) == _text(place / LOCK)
    taken = bool(fresh and remote and asked(root, "ls-remote", remote, ref))
    if taken:
        git(root, "fetch", "--quiet", "--no-tags", remote, f"+{ref}:{ref}")
        files = git(place, "diff", "--name-only", "--diff-filter=d", "--relative", "-z", f"{ref}^", ref).split("\0")
        git(place, "checkout", "--quiet", ref, "--", *filter(None, files))
        before = _stages(file_at(place, "HEAD", LOCK))
        done = sorted(name for name, entry in _locked(place).items() if entry != before.get(name))
        say(f"another worker has finished {some(done, FEW)}: taken over")
    with _remote(place) as found:
        if found is None:
            return
        repo, fs, folder = found
        if taken:
            _between(repo, place, lambda cache, there: (there, cache))
            repo.checkout(force=True, allow_missing=True)
        for path in fs.find(fs.join(folder, night.key)):
            here = place / CHECKPOINTS / fs.relpath(path, fs.join(folder, night.key))
            if here.name != SENT and not here.exists():
                with atomic_file(here) as temporary:
                    fs.get_file(path, str(temporary))
                say(f"another worker has left the checkpoint {here.name}: training goes on from it")


def leave(root: Path, place: Path, night: Night, sent: dict[str, Any]) -> None:
    """Send what is new since the last time.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining.
        sent: what was sent the last time, which is brought up to date.

    Raises:
        MetaloomError: a remote refuses, or does not answer.
    """
    lock, remote = _text(place / LOCK), remote_of(root)
    with _remote(place) as found:
        if found is None:
            return
        repo, fs, folder = found
        ended = lock != sent.setdefault(LOCK, file_at(place, "HEAD", LOCK)) and bool(remote)
        fresh = {path: when for path, when in _checkpoints(place) if sent.get(path.name) != when}
        if ended or fresh:  # `clear` goes by it, so it comes first
            fs.makedirs(fs.join(folder, night.key), exist_ok=True)
            fs.pipe_file(fs.join(folder, night.key, SENT), str(int(time.time())).encode())
        for path, when in fresh.items():
            with suppress(FileNotFoundError):  # that stage has ended meanwhile
                there = fs.join(folder, night.key, *path.relative_to(place / CHECKPOINTS).parts)
                fs.makedirs(fs.parent(there), exist_ok=True)
                fs.put_file(str(path), there)
                sent[path.name] = when
        if ended:
            _between(repo, place, lambda cache, there: (cache, there))
            _leave_lock(root, place, night, remote)
            sent[LOCK] = lock


def _checkpoints(place: Path) -> Iterator[tuple[Path, int]]:
    """Those of a workspace, and when each was written, in nanoseconds."""
    for path in sorted((place / CHECKPOINTS).rglob("*.safetensors")):
        with suppress(FileNotFoundError):
            yield path, path.stat().st_mtime_ns


def forget(root: Path, night: Night) -> None:
    """Take away what was left of a training that has ended; where that fails, it is of no harm."""
    if handover(root) is None:
        return
    ref, remote = f"{REFS}/{night.key}", remote_of(root)
    if remote and asked(root, "ls-remote", remote, ref):
        asked(root, "push", "--quiet", remote, f":{ref}")
    asked(root, "update-ref", "-d", ref)
    with suppress(MetaloomError), _remote(root) as found:
        if found is not None:
            _remove(*found[1:], night.key)


def clear(root: Path, kept: int, days: float, busy: set[str], now: float | None = None) -> list[str]:
    """Take away what was left of trainings that nobody has gone on with; their refs in git's remote too.

    Args:
        root: the project's.
        kept: so many of the newest stay, and all of the last day: another worker may be at them.
        days: and of those none to which nothing was added for longer.
        busy: keys of retrainings that this clone has open.
        now: Unix time.

    Returns:
        The keys of those that went.

    Raises:
        MetaloomError: a remote refuses, or does not answer.
    """
    now = time.time() if now is None else now
    with _remote(root) as found:
        if found is None:
            return []
        _, fs, folder = found
        added = {key: when for key, when in _left_there(fs, folder) if key not in busy}
        newest = sorted(added, key=lambda key: added[key], reverse=True)
        spare = {key for key in newest[kept:] if now - added[key] > DAY}
        gone = [key for key in newest if key in spare or now - added[key] > days * DAY]
        if gone and (remote := remote_of(root)):
            there = git(root, "ls-remote", remote, f"{REFS}/*").split()[1::2]
            if refs := [ref for ref in there if ref.rpartition("/")[2] in gone]:
                git(root, "push", "--quiet", remote, *(f":{ref}" for ref in refs))
        for key in gone:
            asked(root, "update-ref", "-d", f"{REFS}/{key}")
            _remove(fs, folder, key)
    return gone


def _left_there(fs: Any, folder: str) -> Iterator[tuple[str, float]]:
    """The keys of trainings in DVC's remote, and when something was sent last; one without a date is the oldest."""
    sent: dict[str, float] = {}
    for path in fs.find(folder) if fs.exists(folder) else ():
        key, *_, name = fs.parts(fs.relpath(path, folder))
        sent.setdefault(key, 0.0)
        if name == SENT:
            sent[key] = float(fs.cat_file(path))
    yield from sent.items()


def _remove(fs: Any, folder: str, key: str) -> None:
    if left := list(fs.find(fs.join(folder, key))):
        fs.remove(left)


@contextmanager
def _remote(root: Path) -> Iterator[tuple[Any, Any, str] | None]:
    """DVC's repository, the file system of its default remote, and the folder there; None where there is no remote."""
    with open_project(root) as repo:
        if not repo.config["core"].get("remote"):
            yield None
            return
        with remote_errors():
            there = repo.cloud.get_remote()
            yield repo, there.fs, there.fs.join(there.path, *FOLDER.split("/"))


def _between(repo: Any, place: Path, way: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    """Copy the outputs that dvc.lock names between DVC's cache and its remote. No lock: a stage may be at work."""
    from dvc_data.hashfile import transfer
    from dvc_data.hashfile.hash_info import HashInfo

    source, target = way(repo.cache.local, repo.cloud.get_remote_odb())
    named = {HashInfo("md5", out["md5"]) for stage in _locked(place).values() for out in stage.get("outs", ())}
    there = set(source.oids_exist([each.value for each in named]))
    transfer.transfer(source, target, {each for each in named if each.value in there}, shallow=False)


def _leave_lock(root: Path, place: Path, night: Night, remote: str) -> None:
    """A commit of what git keeps of the stages that have ended, by an index of its own."""
    index = {"GIT_INDEX_FILE": str(place / INDEX)}
    git(place, "read-tree", "HEAD", **index)
    made = make_commit(root, night, stage_results(place, **index), "half done\n")
    git(root, "push", "--quiet", "--force", remote, f"{made}:{REFS}/{night.key}")


def _locked(place: Path) -> dict[str, Any]:
    return _stages(_text(place / LOCK))


def _stages(lock: str) -> dict[str, Any]:
    return (load_yaml(lock) or {}).get("stages", {})


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def main() -> None:
    """Send again and again, until the flow's process ends this one."""
    root, place, name, seconds = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    lifeline.end_with_parent()
    sent: dict[str, Any] = {}
    (night,) = (each for each in nights(Path(root)) if each.name == name)
    while True:
        time.sleep(float(seconds))
        with suppress(MetaloomError):  # a remote that is away now is there the next time
            leave(Path(root), Path(place), night, sent)


if __name__ == "__main__":
    main()
