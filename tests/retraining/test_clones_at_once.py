"""Three clones of one project on one machine, none of which knows of the others, retrain the same at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nights import BEGAN, NIGHT, Project
from test_loop_faults import KilledError

from metaloom.retraining import steps

CLONES = "abc"
TESTS = Path(__file__).parents[1]


def clone(shared: Project, folder: Path) -> Project:
    """Another one of the project in `folder`, with its data."""
    subprocess.run(["git", "clone", "-q", folder.parent / "origin.git", folder / "project"], check=True)
    project = Project(folder / "project", [])
    for key, value in (("user.name", folder.name), ("user.email", f"{folder.name}@example.org")):
        project.git("config", key, value)
    project.data(0.5)
    return project


@pytest.fixture
def three(shared: Project, tmp_path: Path) -> list[Project]:
    config, store = shared.root / ".dvc/config", tmp_path / "store"
    text = config.read_text()
    config.write_text(f"{text[: text.index('    url')]}    url = {store}\n")
    shared.git("commit", "-qam", "a remote for all")
    shared.git("push", "-q")
    return [clone(shared, tmp_path / name) for name in CLONES]


def at_once(folders: list[Path], clock: float) -> list[tuple[int, str]]:
    """A night of each, in processes of their own: exit codes and what was printed."""
    paths = os.pathsep.join([str(TESTS), *sys.path])
    environment = {**os.environ, "CLOCK": str(clock), "PYTHONPATH": paths, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-c", "import nights; nights.one_night()"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen(command, cwd=folder, env=environment, **pipes) for folder in folders]
    said = [process.communicate()[0] for process in running]
    return [(process.returncode, text) for process, text in zip(running, said, strict=True)]


@pytest.mark.slow
def test_each_ends_and_one_is_promoted(three, tmp_path):
    folders = [project.root.parent for project in three]
    for code, said in at_once(folders, BEGAN):
        assert code == 0, said
    found = [project.nights()[0] for project in three]
    assert sorted(night.outcome for night in found) == ["kept", "kept", "promoted"]
    there = three[0].git(f"--git-dir={tmp_path}/origin.git", "for-each-ref", "--format=%(refname)").split()
    branches = {f"refs/heads/{night.branch}" for night in found}
    assert len(branches) == 3 and branches <= set(there)
    tags = sorted(each for each in there if each.startswith("refs/tags/"))
    assert tags == [f"refs/tags/handoff{name}" for name in ("#prod#1", "@v0.0.1", "@v0.0.2", "@v0.0.3")]
    assert all(project.branches() == [night.branch] for project, night in zip(three, found, strict=True))
    for code, said in at_once(folders, BEGAN + NIGHT):
        assert code == 0 and "nothing is new" in said, said


@pytest.mark.slow
def test_killed_when_its_branch_has_got_a_name_of_its_own(three, at, monkeypatch):
    """Before that was written down: the next run comes to the same name."""
    one, other, _ = (at(project.root) for project in three)
    one.night()
    plain = steps.share

    def killed(*arguments):
        plain(*arguments)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(steps, "share", killed)
        with pytest.raises(KilledError):
            other.night()
    assert other.night().state == "Completed" and other.outcomes() == ["kept"]
    (night,) = other.nights()
    assert night.branch == f"retrain/{night.name}-{night.commit[:8]}" and other.branches() == [night.branch]
    assert one.nights()[0].branch == f"retrain/{night.name}" and one.branches() == [f"retrain/{night.name}"]
