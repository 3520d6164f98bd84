"""Child processes that end with their parent, however that ends: even SIGKILL closes a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from metaloom.system.utf8 import UTF8

PATIENCE = 10  # seconds from SIGTERM to SIGKILL
RUNNER = "METALOOM_RUNNER"  # environment variable: the process that a stage ends with
LOOK_AT_RUNNER = 1.0  # seconds between looks at it


def start(
    arguments: list[str],
    cwd: str | Path,
    env: dict[str, str],
    out: int | IO[Any] | None,
    err: int | IO[Any] | None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[str]:
    """Start `python ARGUMENTS`, which has to call `end_with_parent`, in a process group of its own.

    Ctrl-C in a terminal reaches the parent alone, which then decides what becomes of its children.
    The child inherits the file descriptors in `pass_fds`, under the same numbers.
    """
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env | UTF8,
        stdin=subprocess.PIPE,  # never written to: its closing is the message
        stdout=out,
        stderr=err,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        pass_fds=pass_fds,
    )


def stop(child: subprocess.Popen[str]) -> None:
    """End the child and all of its group, and wait for it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(timeout=PATIENCE)
            break
        except ProcessLookupError:
            child.wait()
            break
        except subprocess.TimeoutExpired:
            continue
    if child.stdin:
        child.stdin.close()


def ended(child: subprocess.Popen[str], overdue: Callable[[int], bool] = lambda _: False, every: float = 0.0) -> int:
    """Wait for the child, and end what it leaves in its group: a stage that crashed has workers.

    Args:
        child: the process.
        overdue: whether it has to be ended, by its PID.
        every: seconds after which to ask that again; 0: never.

    Returns:
        Its exit code.
    """
    over = threading.Event()
    if every:
        threading.Thread(target=_end_if, args=(child.pid, overdue, every, over), daemon=True).start()
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # its number is no other's group yet
    finally:
        over.set()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def _end_if(pid: int, overdue: Callable[[int], bool], every: float, over: threading.Event) -> None:
    while not over.wait(every):
        if overdue(pid):
            break
    for number in (signal.SIGTERM, signal.SIGKILL):
        if over.is_set():
            return
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        over.wait(PATIENCE)


def end_with_parent() -> bool:
    """End this process's group when its standard input closes; false, and nothing, in one started by hand."""
    if sys.stdin.isatty() or os.getpgrp() != os.getpid():
        return False
    lifeline = os.dup(sys.stdin.fileno())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())  # what the process's own children find as their input
    os.close(null)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os.killpg(0, signal.SIGTERM)
        time.sleep(PATIENCE)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return True


def name_runner() -> None:
    """What this process starts through others ends with it, as far as it calls `end_with_runner`."""
    os.environ[RUNNER] = str(os.getpid())


def end_with_runner() -> None:
    """End this process when the one that RUNNER names has ended; nothing where none is named.

    Between the two stand DVC and a shell, which pass no pipe on.
    """
    if named := os.environ.get(RUNNER):
        threading.Thread(target=_end_after, args=(int(named),), daemon=True).start()


def _end_after(pid: int) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess):
        runner = psutil.Process(pid)
        while runner.is_running() and runner.status() != psutil.STATUS_ZOMBIE:
            time.sleep(LOOK_AT_RUNNER)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)
