"""One undisturbed run of the tiny project, for all tests of the whole path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from projects import make_project, metaloom


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> tuple[Path, str]:
    """A project after `metaloom run`, and what that printed; read it, copy it, don't change it."""
    root = make_project(tmp_path_factory.mktemp("done"), shapes)
    return root, metaloom(root, "run").stdout


@pytest.fixture
def copied(done: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that project, of the test's own."""
    root = tmp_path / "copy"
    shutil.copytree(done[0], root, symlinks=True)
    return root
