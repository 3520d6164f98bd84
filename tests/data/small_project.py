"""A project as small as can be, for what changes data/: git, DVC, a remote and nine pictures; it has no stages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.cli import main as dvc
from projects import REPO, draw_shapes, environment

from metaloom.versioning.data import version_data


def commit(message: str) -> None:
    for command in (["git", "add", "-A"], ["git", "commit", "-qm", message]):
        subprocess.run(command, check=True, env=environment(), capture_output=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of data/ in commits and in the remote; the first is of a version of the model."""
    root, before = tmp_path_factory.mktemp("small"), Path.cwd()
    os.chdir(root)
    try:
        subprocess.run(["git", "init", "-q", "-b", "main"], check=True)
        assert dvc(["init", "-q"]) == 0 and dvc(["remote", "add", "-q", "--default", "backup", "remote"]) == 0
        shutil.copy(REPO / "params.yaml", root)
        (root / "dvc.yaml").write_text("stages: {}\n")
        (root / ".gitignore").write_text("/data\n/remote\n/.metaloom\n")
        draw_shapes(root / "data", domains=2, classes=2, examples=2)
        for number in range(2):
            shutil.copy(root / "data/domain1/class0/0.png", root / f"data/domain0/class0/new{number}.png")
            with (root / f"data/domain0/class0/new{number}.png").open("ab") as file:
                file.write(bytes(number))  # the first one is the same
            version_data(root)
            commit(f"data {number}")
            if number == 0:
                for tag in ("handoff@v0.1.0", "handoff#prod#1"):
                    subprocess.run(["git", "tag", tag], check=True)
        assert dvc(["push", "-q", "--all-commits"]) == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def small(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in."""
    root = tmp_path / "small"
    shutil.copytree(template, root, symlinks=True)
    monkeypatch.chdir(root)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return root
