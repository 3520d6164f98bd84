"""What all workers of a test run share: a folder, things that one of them makes for all, and a lifeline.

pytest-xdist runs the tests in several processes, each with session fixtures of its own. What takes seconds to make and
is only read (a trained project, a Prefect server) is made by the first that asks; the others wait for it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

FOLDER = "METALOOM_TEST_RUN"  # the environment variable that tells the workers
LIFELINE = "lifeline"


def begin() -> int:
    """Make the folder, in the process that the user started; gives what keeps the lifeline open."""
    folder = tempfile.mkdtemp(prefix="metaloom-tests-")
    os.environ[FOLDER] = folder
    os.mkfifo(Path(folder, LIFELINE))
    return os.open(Path(folder, LIFELINE), os.O_RDWR)


def end(lifeline: int) -> None:
    """Processes that live for the run end by themselves when this closes, as they do when this process is killed."""
    os.close(lifeline)
    shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


def folder() -> Path:
    return Path(os.environ[FOLDER])


def lifeline() -> int:
    """Standard input for a process that calls `metaloom.system.lifeline.end_with_parent`: closes when the run ends."""
    return os.open(folder() / LIFELINE, os.O_RDONLY)


def once(name: str, make: Callable[[Path], None]) -> Path:
    """`folder() / name`, which `make` has filled; read it, copy it, don't change it.

    Args:
        name: of the folder, the same in all workers.
        make: called with the empty folder by the first worker that asks; when it raises, the next that asks tries.
    """
    made = folder() / name
    with FileLock(folder() / f"{name}.lock"):
        mark = folder() / f"{name}.made"
        if not mark.exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            make(made)
            mark.touch()
    return made
