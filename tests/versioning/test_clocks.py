"""`dvc artifacts get` and `metaloom models` agree on what is prod, whatever the clocks say of those who have put it
there."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from dvc.repo import Repo
from projects import run_here

from metaloom.versioning import registry

DAY = 24 * 3600
VERSIONS = ("v0.0.1", "v0.0.2", "v0.0.3")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commits, each a version."""
    monkeypatch.setattr(registry, "_check_bundle", lambda root, commit: None)
    run_here(tmp_path, "git", "init", "-q")
    Repo.init(str(tmp_path)).close()
    (tmp_path / "dvc.yaml").write_text("artifacts:\n  handoff: {path: artifacts/bundle, type: model}\n")
    (tmp_path / ".gitignore").write_text("/.metaloom/\n")
    run_here(tmp_path, "git", "add", "-A")
    for version in VERSIONS:
        run_here(tmp_path, "git", "commit", "-qm", version, "--allow-empty")
        run_here(tmp_path, "git", "tag", "-a", f"handoff@{version}", "-m", version)
    return tmp_path


def elsewhere(root: Path, number: int, version: str, seconds: float) -> None:
    """Somebody else has put a version into prod, by a clock that is ahead of ours by so many seconds."""
    when = {"GIT_COMMITTER_DATE": f"@{int(time.time() + seconds)} +0000"}
    command = ["git", "tag", "-a", "-m", "elsewhere", f"handoff#prod#{number}", f"handoff@{version}^{{commit}}"]
    subprocess.run(command, cwd=root, env=os.environ | when, check=True)


def prod(root: Path) -> str:
    """What both say, which has to be the same."""
    with Repo(str(root)) as repo:
        got = repo.artifacts.get_rev("handoff", stage="prod")
    found = registry.in_stage(root, "prod")
    assert found is not None and found[1] == got
    return found[0]


@pytest.mark.parametrize("seconds", [-DAY, 40 * 365 * DAY])
def test_who_comes_last_counts_though_the_other_clock_is_ahead(root, seconds):
    elsewhere(root, 1, "v0.0.1", seconds)
    registry.put_into(root, "v0.0.2", "prod", "told", ("robot", "robot@example.org"))
    assert prod(root) == "v0.0.2"
    said = run_here(root, "git", "tag", "-l", "--format=%(contents:subject) %(taggername)", "handoff#prod#2").stdout
    assert said == "told robot\n"
    assert registry.rollback(root, "prod") == ("v0.0.2", "v0.0.1") and prod(root) == "v0.0.1"


def test_many_changes_in_a_second(root):
    """Of tags of one second DVC takes the last by name, and 10 is before 9."""
    for number in range(1, 10):
        elsewhere(root, number, VERSIONS[number % 2], 5)
    registry.put_into(root, "v0.0.3", "prod")
    assert "handoff#prod#10" in run_here(root, "git", "tag", "-l").stdout.split()
    assert prod(root) == "v0.0.3"
    (listed,) = [each.version for each in registry.model_versions(root) if "prod" in each.stages]
    assert listed == "v0.0.3"


def test_both_believe_a_tag_by_hand_from_a_clock_that_is_behind(root):
    registry.put_into(root, "v0.0.2", "prod")
    elsewhere(root, 2, "v0.0.3", -DAY)
    assert prod(root) == "v0.0.2"
    registry.put_into(root, "v0.0.1", "prod")
    assert prod(root) == "v0.0.1"


def candidate(root: Path) -> str:
    """The candidate, as GTO has it too; empty where there is none."""
    import gto.api

    found = registry.in_stage(root, "candidate")
    listed = [each.version for each in registry.model_versions(root) if "candidate" in each.stages]
    said = [each.version for each in gto.api.find_versions_in_stage(str(root), "handoff", "candidate") or ()]
    assert listed == said == ([found[0]] if found else [])
    return found[0] if found else ""


@pytest.mark.parametrize("seconds", [0, DAY])
def test_a_version_leaves_its_stage_and_one_that_was_there_before_is_in_it(root, monkeypatch, seconds):
    for version in VERSIONS[:2]:
        registry.put_into(root, version, "candidate")
    clock = time.time
    monkeypatch.setattr(registry.time, "time", lambda: clock() - seconds)
    assert registry.take_out(root, "v0.0.3", "candidate", "never there") == ""
    assert registry.take_out(root, "v0.0.2", "candidate", "refused") == "refs/tags/handoff#candidate!#3"
    assert candidate(root) == "v0.0.1" and registry.take_out(root, "v0.0.2", "candidate", "again") == ""
    registry.take_out(root, "v0.0.1", "candidate", "refused too", ("robot", "robot@example.org"))
    assert candidate(root) == ""
    with pytest.raises(registry.MetaloomError, match="candidate has had no version"):
        registry.rollback(root, "candidate")
    registry.put_into(root, "v0.0.2", "candidate")
    assert candidate(root) == "v0.0.2"
