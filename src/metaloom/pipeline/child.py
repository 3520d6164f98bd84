"""One stage in a process of its own, which ends with ours whatever ends ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from metaloom.errors import BAD_INPUT, ERROR_FILE, MetaloomError
from metaloom.pipeline.stages import FORCE, StageExit
from metaloom.system import lifeline
from metaloom.system.limits import HungError, Watch
from metaloom.system.lock import BusyError

COMMAND_FAILED = "failed to run: "  # how DVC begins to say that a command exited with another code than 0


class RefusedError(MetaloomError):
    """What a process was asked for cannot be had, and it said so: bad input, not a failure."""

    state = "Refused"  # of a task that ends with it


def reproduce_in_child(
    root: str | Path,
    name: str,
    out: Callable[[str], None],
    err: Callable[[str], None],
    force: bool = False,
    watch: Watch | None = None,
) -> StageExit:
    """Bring the stage up to date.

    Args:
        root: the project's root.
        name: the stage, as in dvc.yaml; with a matrix `name@key`.
        out: gets each line that the stage writes to standard output.
        err: the same for standard error, unless that is a terminal: then the stage writes there itself,
            so that its progress bars move.
        force: run it though it is up to date.
        watch: ends it when it takes too long, or hangs.

    Raises:
        BusyError: another DVC command is at work.
        HungError: the watch has ended it.
        MetaloomError: the stage failed; the message is the stage's own where it left one.
    """
    ended = _run(root, ["metaloom.pipeline", name, *([FORCE] if force else [])], out, err, watch)
    text = ended.message
    if ended.code in (StageExit.RAN, StageExit.CURRENT, StageExit.RESTORED):
        return StageExit(ended.code)
    _refuse_hung(f"stage {name}", watch)
    if ended.code == StageExit.BUSY:
        raise BusyError(text)
    if text.startswith(COMMAND_FAILED) and ended.last:  # the command's last words before DVC's about its exit code
        text = f"{ended.last.removeprefix('error: ')} ({text})"
    raise MetaloomError(f"stage {name} failed: {text or f'exit code {ended.code}'}")


def run_module(
    root: str | Path,
    module: str,
    arguments: list[str],
    out: Callable[[str], None],
    err: Callable[[str], None],
    watch: Watch | None = None,
) -> None:
    """`python -m MODULE ARGUMENTS`, which is no stage but ends as one does; the rest as for `reproduce_in_child`."""
    ended = _run(root, [module, *arguments], out, err, watch)
    if ended.code:
        _refuse_hung(module, watch)
        error = RefusedError if ended.code == BAD_INPUT else MetaloomError
        raise error(ended.message or ended.last or f"{module}: exit code {ended.code}")


class _Ended(NamedTuple):
    """A process that has ended.

    Args:
        code: its exit code.
        message: that it left for the user; "" where it left none.
        last: its last line on standard error, where that is ours to read.
    """

    code: int
    message: str
    last: str


def _run(
    root: str | Path,
    command: list[str],
    out: Callable[[str], None],
    err: Callable[[str], None],
    watch: Watch | None,
) -> _Ended:
    last, watch = [""], watch or Watch(total=0, stall=0)

    def complained(line: str) -> None:
        last[0] = line.strip() or last[0]
        err(line)

    with tempfile.TemporaryDirectory(prefix="metaloom-") as folder:
        message = Path(folder, "error")
        message.touch()
        child = lifeline.start(
            ["-m", *command],
            cwd=root,
            env=_environment(message),
            out=subprocess.PIPE,
            err=None if sys.stderr.isatty() else subprocess.PIPE,
        )
        readers = [_reader(child.stdout, out, watch), _reader(child.stderr, complained, watch)]
        code = _waited_for(child, readers, watch)
        return _Ended(code, message.read_text(encoding="utf-8").strip(), last[0])


def _waited_for(child: subprocess.Popen[str], readers: Iterable[threading.Thread], watch: Watch) -> int:
    """The child's exit code, once all that it wrote has been read; whatever ends the wait ends the child."""
    try:
        return lifeline.ended(child, watch.overdue, watch.every)
    except BaseException:
        lifeline.stop(child)
        raise
    finally:
        for reader in readers:
            reader.join(timeout=lifeline.PATIENCE)
        if child.stdin:
            child.stdin.close()


def _refuse_hung(what: str, watch: Watch | None) -> None:
    if watch and watch.hung:
        raise HungError(f"{what}: {watch.hung}; the next run goes on from what was finished", watch.hung.state)


def _reader(stream: Iterable[str] | None, take: Callable[[str], None], watch: Watch) -> threading.Thread:
    def read() -> None:
        for line in stream or ():
            watch.heard()
            take(line.rstrip())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _environment(message: Path) -> dict[str, str]:
    """`python` in dvc.yaml is the one that runs us, with or without an activated environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", ERROR_FILE: str(message)}
