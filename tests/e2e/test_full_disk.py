"""A disk that gets full, a real one where mounting is allowed: a stage says so, and the run after freeing is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from projects import forget, hashes, run_here
from test_killed import leftovers


@contextmanager
def small_disk(folder: Path, room: int) -> Iterator[list[str]]:
    """A folder gets a file system of its own that has so many bytes left, until its file `ballast` is removed.

    Gives what to put before a command: where mounting is not allowed, a limit of the size of its files.
    """
    aside = folder.rename(folder.with_name("aside"))
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], capture_output=True)
    shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
    try:
        if mounted.returncode == 0:
            free = os.statvfs(folder)
            with (folder / "ballast").open("wb") as ballast:
                os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize - room)
            yield []
        else:
            (folder / "ballast").touch()
            yield ["prlimit", f"--fsize={room}"]
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)


def assert_the_run_after_freeing_is_whole(root: Path, stage: str, place: str, room: int) -> None:
    expected, run = hashes(root), [sys.executable, "-m", "metaloom.pipeline", stage]
    forget(root, stage)
    with small_disk(root / place, room) as limited:
        failed = run_here(root, *limited, *run, check=False)
        assert failed.returncode == 1
        said = next(line for line in failed.stderr.splitlines() if line.startswith("error: "))  # the stage's, or DVC's
        assert "disk is full" in said or "no room" in said, failed.stderr
        assert "Traceback" not in failed.stderr
        (root / place / "ballast").unlink()
        run_here(root, *run)
        assert hashes(root) == expected and leftovers(root) == []


@pytest.mark.slow
@pytest.mark.parametrize(("place", "room"), [("artifacts", 64 * 1024), (".dvc/cache", 4096)])
def test_a_disk_that_gets_full_in_prepare_or_in_dvcs_cache(project, place, room):
    run_here(project, "dvc", "add", "data")
    run_here(project, sys.executable, "-m", "metaloom.pipeline", "prepare")
    if place == ".dvc/cache":
        shutil.rmtree(project / place / "files")  # so that it has to take the outputs again
    assert_the_run_after_freeing_is_whole(project, "prepare", place, room)


@pytest.mark.sweep  # `evaluate` runs twice
def test_a_disk_that_gets_full_in_evaluate(copied):
    assert_the_run_after_freeing_is_whole(copied, "evaluate", "artifacts", 16 * 1024)
