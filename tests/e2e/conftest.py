"""One undisturbed run of the tiny project, for all tests of the whole path."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import together
from projects import make_project, metaloom


def _run(folder: Path, shapes: Path) -> None:
    root = make_project(folder / "project", shapes)
    (folder / "printed.txt").write_text(metaloom(root, "run").stdout)


@pytest.fixture(scope="session")
def done(shapes: Path) -> tuple[Path, str]:
    """A project after `metaloom run`, and what that printed, also for the next run; read, copy, don't change it."""
    folder = together.once("done", partial(_run, shapes=shapes), together.kept)
    return folder / "project", (folder / "printed.txt").read_text()


@pytest.fixture
def copied(done: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that project, of the test's own."""
    root = tmp_path / "copy"
    shutil.copytree(done[0], root, symlinks=True)
    return root
