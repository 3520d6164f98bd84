"""`make lint`, as CI sees it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent
QUICK = [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["lint-imports"]]
COMMANDS = [*QUICK, ["pyright"]]


@pytest.mark.parametrize("command", [*QUICK, pytest.param(["pyright"], marks=pytest.mark.slow)], ids=" ".join)
def test_lint(command, repo):
    if command[0] == "pyright" and not shutil.which("node"):
        pytest.skip("pyright runs on Node.js, which is not on this machine")
    done = subprocess.run([SCRIPTS / command[0], *command[1:]], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_lint_runs_the_same(repo):
    makefile = (repo / "Makefile").read_text()
    assert all(f"$(BIN)/{' '.join(command)}" in makefile for command in COMMANDS)
