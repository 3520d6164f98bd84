"""`make lint`, as CI sees it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
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


def test_every_room_and_kind_is_guarded(repo):
    """A kind or a room that import-linter's contract does not name could be imported from anywhere."""
    contracts = tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    kinds = next(each for each in contracts if each["name"].startswith("kinds of examples"))
    package = repo / "src/metaloom"
    folders = {path.parent.name for path in package.glob("kinds/*/__init__.py")}
    assert set(kinds["forbidden_modules"]) == {f"metaloom.kinds.{name}" for name in folders}
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} | {path.stem for path in package.glob("*.py")}
    assert set(kinds["source_modules"]) == {f"metaloom.{name}" for name in rooms - {"kinds", "__init__"}} | {"flows"}
