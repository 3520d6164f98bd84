"""A cache or a home that cannot be written, a machine without git: it works, or one line says what to do."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from standins import METALOOM, PATIENCE

LIKE_OTHERS = ["setpriv", "--bounding-set=-dac_override"]  # modes of files hold for root too

pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root writes where it may not, without setpriv"
)


def run(root: Path, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`metaloom run`, with a temporary server unless `more` names another."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "XDG_"))}
    environment = ours | {"PATH": "/usr/bin:/bin", "HOME": str(home)} | more
    command = [sys.executable, "-c", METALOOM, "run"]
    if os.geteuid() == 0:
        command = [str(shutil.which(LIKE_OTHERS[0])), *LIKE_OTHERS[1:], *command]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.slow
def test_a_cache_that_cannot_be_written(standin, home):
    cache = standin.root / ".dvc/cache"
    cache.mkdir(exist_ok=True)
    cache.chmod(0o555)
    done = run(standin.root, home)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert str(cache) in done.stderr and f"for user {getpass.getuser()}: give that user the right" in done.stderr


@pytest.mark.slow
def test_a_home_that_cannot_be_written(standin, home):
    home.chmod(0o555)
    done = run(standin.root, home)
    assert (done.returncode, done.stderr) == (0, "") and (standin.root / "join.txt").exists()


@pytest.mark.slow
def test_a_machine_without_git(standin, home, tmp_path, prefect_server):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "cat"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = run(standin.root, home, **prefect_server, PATH=str(programs))
    assert (done.returncode, done.stderr) == (0, "") and (standin.root / "join.txt").exists()
