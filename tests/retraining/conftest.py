"""The project of `nights`, in a folder of its own; and a receiver in the place of a team's chat."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from http.server import HTTPServer
from pathlib import Path

import pytest
import together
from nights import Project, Receiver, by_figures, share, template

from metaloom.retraining import steps
from metaloom.versioning import registry


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Project]:
    """`at(root)`: the project in that folder."""
    monkeypatch.setattr(registry, "_check_bundle", lambda root, commit: None)
    monkeypatch.setattr(steps, "judged", by_figures)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    runs: list[str] = []
    return lambda root: Project(root, runs)


@pytest.fixture
def small(at: Callable[[Path], Project], tmp_path: Path) -> Project:
    """A project with one commit, data of 50% and no remote."""
    shutil.copytree(together.once("retrained", template), tmp_path / "project", symlinks=True)
    project = at(tmp_path / "project")
    project.data(0.5)
    return project


@pytest.fixture
def shared(small: Project, tmp_path: Path) -> Project:
    """The same with a bare repository and a DVC remote in a folder."""
    share(small, tmp_path)
    return small


@pytest.fixture
def receiver():
    Receiver.taken = []
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
