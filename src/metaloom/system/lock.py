"""One writer at a time: whoever changes data/, artifacts/ or the DVC files holds `.metaloom/lock`.

The operating system releases the lock when its holder dies, whatever killed it; the file that names the
holder is only there to be read out to those who have to wait.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from metaloom.errors import MetaloomError
from metaloom.system.files import write_json
from metaloom.system.terminal import say

STATE = ".metaloom"  # what is of this checkout alone: the lock, the version last seen; git ignores it
RETRAINING = f"{STATE}/retraining"  # in a project: workspaces of retrainings, by the names of their nights


class BusyError(MetaloomError):
    """Somebody else is at work; the same again a little later can succeed."""


@contextmanager
def project_lock(root: str | Path, wait: int | float = 0) -> Iterator[None]:
    """Hold the project's lock; a second call in the same process shares it.

    Args:
        root: the project's root.
        wait: seconds to wait for another holder, which is said in a line.

    Raises:
        BusyError: another process holds it; the message names that process.
    """
    folder = Path(root).resolve() / STATE
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "lock", is_singleton=True, thread_local=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            say(f"waiting for {_holder(folder)}")
            lock.acquire(timeout=wait, poll_interval=0.1)
    except Timeout:
        waited = f" (waited {wait:g} s)" if wait else ""
        raise BusyError(
            f"another run is at work in this project: {_holder(folder)}{waited}; "
            "wait for it with `metaloom run --wait SECONDS`, or end it"
        ) from None
    try:
        if lock.lock_counter == 1:
            write_json(folder / "holder.json", _myself())
        yield
    finally:
        lock.release()


def _myself() -> dict[str, str | int]:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "started": started}


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / "holder.json").read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}, `{holder['command']}`, since {holder['started']}"
    except (OSError, ValueError, KeyError):  # read at the moment when the holder was writing its first
        return "a process that is still starting"
