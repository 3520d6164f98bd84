"""A cache or a home that cannot be written, a machine without git: it works, or one line says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins import METALOOM

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def theirs(standin_template: Path) -> Iterator[Path]:
    """The stand-in project of another user of this machine, with a home."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(standin_template, folder / "project", symlinks=True)
    (folder / "home").mkdir()
    (folder / "project/.dvc/cache").mkdir(exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    yield folder / "project"
    shutil.rmtree(folder)


def run(root: Path, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    """`metaloom run` by that user, with a temporary server."""
    environment = {"PATH": path, "HOME": str(root.parent / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", METALOOM, "run"], cwd=root, env=environment | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True, text=True, timeout=300, user=NOBODY, group=NOBODY, extra_groups=[],
    )  # fmt: skip


@pytest.mark.slow
def test_a_cache_that_cannot_be_written(theirs):
    cache = theirs / ".dvc/cache"
    os.chown(cache, 0, 0)
    cache.chmod(0o555)
    done = run(theirs)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert str(cache) in done.stderr and "for user nobody: give that user the right" in done.stderr


@pytest.mark.slow
def test_a_home_that_cannot_be_written(theirs):
    home = theirs.parent / "home"
    os.chown(home, 0, 0)
    home.chmod(0o555)
    done = run(theirs)
    assert (done.returncode, done.stderr) == (0, "") and (theirs / "join.txt").exists()


@pytest.mark.slow
def test_a_machine_without_git(theirs):
    programs = theirs.parent / "programs"
    programs.mkdir()
    for name in ("sh", "cat", "mkdir", "cp"):
        (programs / name).symlink_to(shutil.which(name))
    done = run(theirs, str(programs))
    assert (done.returncode, done.stderr) == (0, "") and (theirs / "join.txt").exists()
