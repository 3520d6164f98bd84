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
from metaloom.retraining.committing import STARTS, make_commit, stage_results
from metaloom.retraining.git import asked, file_at, git, remote_of
from metaloom.retraining.nights import DAY, Night, nights
from metaloom.retraining.transfers import (
    SENT,
    checkpoints,
    dvc_remote,
    fetch_outputs,
    leave_checkpoints,
    locked,
    send_outputs,
    stages_in,
    take_checkpoints,
    text_of,
)
from metaloom.system import lifeline
from metaloom.system.lock import STATE
from metaloom.system.plural import some
from metaloom.system.provenance import LOCK
from metaloom.system.terminal import say

REFS = "refs/metaloom/half"  # of what is half done, by the key of what it starts from
STAGES = "refs/metaloom/stages"  # what is offered to other workers, and the stages that they have made, by that key
INDEX = f"{STATE}/relay-index"
NONE = "no version"  # an empty line would not be found again
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
    with sending(root, __name__, str(root), str(place), night.name, str(60 * minutes)):
        yield


@contextmanager
def sending(root: Path, module: str, *arguments: str) -> Iterator[None]:
    """A module that sends again and again is at work, in a process of its own that ends with the block."""
    sender = lifeline.start(["-m", module, *arguments], root, dict(os.environ), subprocess.DEVNULL, None)
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
    fresh = file_at(place, "HEAD", LOCK) == text_of(place / LOCK)
    taken = bool(fresh and remote and asked(root, "ls-remote", remote, ref))
    if taken:
        git(root, "fetch", "--quiet", "--no-tags", remote, f"+{ref}:{ref}")
        if night.start is None:  # another model may be in the stage by now
            night.start = _start_in(git(place, "log", "-1", "--format=%B", ref))
            night.save(root)  # before the workspace is no fresh one any more
        files = git(place, "diff", "--name-only", "--diff-filter=d", "--relative", "-z", f"{ref}^", ref).split("\0")
        git(place, "checkout", "--quiet", ref, "--", *filter(None, files))
        before = stages_in(file_at(place, "HEAD", LOCK))
        done = sorted(name for name, entry in locked(place).items() if entry != before.get(name))
        say(f"another worker has finished {some(done, FEW)}: taken over")
    if taken:
        fetch_outputs(place)
    take_checkpoints(place, night.key)


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
    lock, remote = text_of(place / LOCK), remote_of(root)
    leave_checkpoints(place, night.key, sent)
    if lock != sent.setdefault(LOCK, file_at(place, "HEAD", LOCK)) and remote:
        if not send_outputs(place, night.key):
            return
        leave_state(root, place, night)
        sent[LOCK] = lock


def forget(root: Path, night: Night) -> None:
    """Take away what was left of a training that has ended; where that fails, it is of no harm."""
    if handover(root) is None:
        return
    if remote := remote_of(root):
        patterns = [f"{REFS}/{night.key}", f"{STAGES}/{night.key}/*"]
        if refs := asked(root, "ls-remote", remote, *patterns).split()[1::2]:
            asked(root, "push", "--quiet", remote, *(f":{ref}" for ref in refs))
    _forget_here(root, night.key)
    with suppress(MetaloomError), dvc_remote(root) as found:
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
    with dvc_remote(root) as found:
        if found is None:
            return []
        _, fs, folder = found
        added = {key: when for key, when in _left_there(fs, folder) if key not in busy}
        newest = sorted(added, key=lambda key: added[key], reverse=True)
        spare = {key for key in newest[kept:] if now - added[key] > DAY}
        gone = [key for key in newest if key in spare or now - added[key] > days * DAY]
        if gone and (remote := remote_of(root)):
            there = git(root, "ls-remote", remote, f"{REFS}/*", f"{STAGES}/*").split()[1::2]
            if refs := [ref for ref in there if ref.split("/")[3] in gone]:
                git(root, "push", "--quiet", remote, *(f":{ref}" for ref in refs))
        for key in gone:
            _forget_here(root, key)
            _remove(fs, folder, key)
    return gone


def _forget_here(root: Path, key: str) -> None:
    refs = asked(root, "for-each-ref", "--format=%(refname)", f"{REFS}/{key}", f"{STAGES}/{key}").split()
    for ref in refs:
        asked(root, "update-ref", "-d", ref)


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


def leave_state(root: Path, place: Path, night: Night, ref: str = "", index: str = INDEX) -> None:
    """Push a commit of what git keeps of the stages that have ended, made by an index of its own.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining.
        ref: that names it in git's remote; empty: that of the half-done training.
        index: for who does so at the same time.

    Raises:
        MetaloomError: git's remote refuses, or does not answer.
    """
    own = {"GIT_INDEX_FILE": str(place / index)}
    git(place, "read-tree", "HEAD", **own)
    made = make_commit(root, night, stage_results(place, **own), _message(night))
    git(root, "push", "--quiet", "--force", remote_of(root), f"{made}:{ref or f'{REFS}/{night.key}'}")


def _message(night: Night) -> str:
    """That something is half done, and from which model's weights, once that was asked."""
    return "half done\n" if night.start is None else f"half done\n\n{STARTS}{night.start or NONE}\n"


def _start_in(message: str) -> str | None:
    """What `_message` says of the start, as `Night.start` has it."""
    found = [line.removeprefix(STARTS) for line in message.splitlines() if line.startswith(STARTS)]
    return found[0].replace(NONE, "") if found else None


def again_and_again(send: Callable[[], None], seconds: float) -> None:
    """Until the flow's process ends this one."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    lifeline.end_with_parent()
    while True:
        time.sleep(seconds)
        with suppress(MetaloomError):  # a remote that is away now is there the next time
            send()


def main() -> None:
    """Send what is new of a workspace."""
    root, place, name, seconds = sys.argv[1:]
    sent: dict[str, Any] = {path.name: when for path, when in checkpoints(Path(place))}  # others may have sent newer

    def send() -> None:
        (night,) = (each for each in nights(Path(root)) if each.name == name)  # it may know more by now
        leave(Path(root), Path(place), night, sent)

    again_and_again(send, float(seconds))


if __name__ == "__main__":
    main()
