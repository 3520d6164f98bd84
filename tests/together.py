"""What all workers of a test run share: a folder, things that one of them makes for all, and a lifeline.

pytest-xdist runs the tests in several processes, each with session fixtures of its own. What takes seconds to make and
is only read (a trained project, a Prefect server) is made by the first that asks; the others wait for it. What takes
minutes is kept for the next run, `make test-slow` after `make test`, while no file that it is made from changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

FOLDER, KEPT = "METALOOM_TEST_RUN", "METALOOM_TESTS_KEPT"  # the environment variables that tell the workers
LIFELINE = "lifeline"
REPO = Path(__file__).resolve().parents[1]
TESTS = ("tests/projects.py", "tests/e2e/conftest.py")
MADE_FROM = ("src/**/*", "flows/*.py", *TESTS, "*.yaml", "*.txt", "pyproject.toml")
RUNS_KEPT = 2


def begin(keep: bool) -> int:
    """Make the folder, in the process that the user started; gives what keeps the lifeline open.

    Args:
        keep: use what an earlier run has kept, and keep for the next; a run that measures coverage makes everything.
    """
    folder = tempfile.mkdtemp(prefix="metaloom-tests-")
    os.environ[FOLDER] = os.environ[KEPT] = folder
    if keep:
        os.environ[KEPT] = str(_kept_for_these_files())
    os.mkfifo(Path(folder, LIFELINE))
    return os.open(Path(folder, LIFELINE), os.O_RDWR)


def end(lifeline: int) -> None:
    """Processes that live for the run end by themselves when this closes, as they do when this process is killed."""
    os.close(lifeline)
    os.environ.pop(KEPT)
    shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


def _kept_for_these_files() -> Path:
    """build/tests/HASH, of all that `kept` things are made from; those of the last other runs stay beside it."""
    digest = hashlib.sha256(f"{REPO} {sys.version}".encode())
    for path in _made_from():
        digest.update(f"{path.relative_to(REPO)}\0".encode() + path.read_bytes())
    found = REPO / "build/tests" / digest.hexdigest()[:16]
    found.mkdir(parents=True, exist_ok=True)
    os.utime(found)
    for old in sorted(found.parent.iterdir(), key=lambda each: each.stat().st_mtime)[:-RUNS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return found


def _made_from() -> Iterator[Path]:
    for pattern in MADE_FROM:
        found = sorted(REPO.glob(pattern))
        yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def folder() -> Path:
    return Path(os.environ[FOLDER])


def kept() -> Path:
    """A folder that the next run has too; of a run that keeps nothing: `folder()`."""
    return Path(os.environ[KEPT])


def lifeline() -> int:
    """Standard input for a process that calls `metaloom.system.lifeline.end_with_parent`: closes when the run ends."""
    return os.open(folder() / LIFELINE, os.O_RDONLY)


def once(name: str, make: Callable[[Path], None], place: Callable[[], Path] = folder) -> Path:
    """`folder() / name`, which `make` has filled; read it, copy it, don't change it.

    Args:
        name: of the folder, the same in all workers.
        make: called with the empty folder by the first worker that asks; when it raises, the next that asks tries.
        place: `kept`: the folder is there in the next run too.
    """
    made = place() / name
    with FileLock(place() / f"{name}.lock"):
        mark = place() / f"{name}.made"
        if not mark.exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            make(made)
            mark.touch()
    return made
