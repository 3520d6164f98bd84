"""A bundle that is worse at the task handed off does not take another's stage; versions have names to compare by."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from projects import run_here

from metaloom.cli.compare import lines
from metaloom.errors import MetaloomError
from metaloom.judging.ledger import Entry, written
from metaloom.judging.records import read_ledger
from metaloom.versioning import registry
from metaloom.versioning.comparison import Comparison
from metaloom.versioning.quality import Handed, handed, told_apart
from metaloom.versioning.registry import Judged
from metaloom.versioning.revisions import resolved

GOOD = Handed("armenian", 55, 0.203, 0.18, 0.23)
BAD = Handed("armenian", 55, 0.073, 0.06, 0.09)
NEAR = Handed("armenian", 55, 0.19, 0.17, 0.21)


@pytest.mark.parametrize(
    ("present", "new", "worse", "words"),
    [
        (GOOD, BAD, True, "worse at armenian: 7.3% (6.0% to 9.0%) instead of 20.3% (18.0% to 23.0%)"),
        (GOOD, NEAR, False, "not clearly worse at armenian: 19.0% (17.0% to 21.0%), before 20.3% (18.0% to 23.0%)"),
        (BAD, GOOD, False, "no worse at armenian: 20.3% (18.0% to 23.0%), before 7.3% (6.0% to 9.0%)"),
        (GOOD, Handed("greek", 24, 0.01, 0.0, 0.02), False, "another task than before (armenian with 55 classes, "),
        (None, BAD, False, ""),
        (GOOD, None, False, ""),
    ],
)
def test_two_bundles_are_told_apart(present, new, worse, words):
    found, told = told_apart(present, new)
    assert found == worse and told.startswith(words) and bool(told) == bool(words)


def metadata(each: Handed) -> dict:
    measured = {"accuracy": each.accuracy, "low95": each.low95, "high95": each.high95}
    return {"task": {"name": each.task, "n_way": each.n_way}, "metrics": {"task": measured}}


def test_what_a_bundle_says_of_its_task():
    assert handed(metadata(GOOD)) == GOOD
    assert handed(None) is None and handed({"task": {}, "metrics": {"task": None}}) is None


def commit(root: Path, name: str) -> str:
    """As if a run had made its bundle."""
    (root / "dvc.lock").touch()
    run_here(root, "git", "add", "dvc.lock")
    run_here(root, "git", "commit", "-q", "--allow-empty", "-m", name)
    return run_here(root, "git", "rev-parse", "HEAD").stdout.strip()


def test_a_worse_one_is_promoted_with_force_alone(project: Path, monkeypatch: pytest.MonkeyPatch):
    of_commit = {commit(project, "good"): metadata(GOOD)}
    monkeypatch.setattr(registry, "_check_bundle", lambda root, commit: None)
    monkeypatch.setattr(registry, "metadata_of", lambda root, commit: of_commit.get(commit))
    assert registry.promote(project, None, "prod")[::2] == ("v0.0.1", "")
    of_commit[commit(project, "bad")] = metadata(BAD)
    with pytest.raises(
        MetaloomError, match=r"^worse at armenian: .*; v0.0.1 stays prod: `--force` promotes it though$"
    ):
        registry.promote(project, "v0.0.2", "prod")
    assert run_here(project, "git", "tag").stdout.split() == ["handoff#prod#1", "handoff@v0.0.1"]
    assert registry.promote(project, "v0.0.2", "candidate")[0] == "v0.0.2"  # nothing is in that stage
    assert registry.promote(project, "v0.0.2", "prod", force=True)[0] == "v0.0.2"
    assert registry.promote(project, "v0.0.2", "prod")[0] == "v0.0.2"  # as it is
    assert registry.promote(project, "v0.0.1", "prod")[2].startswith("no worse at armenian")
    assert resolved(project, "v0.0.1") == "handoff@v0.0.1" and resolved(project, "HEAD") == "HEAD"
    assert resolved(project, "v9") == "v9"  # what git then does not know


def test_who_judges_decides_and_its_message_stands_in_the_tags(project: Path, monkeypatch: pytest.MonkeyPatch):
    """The bundles' own figures count where it has nothing to say."""
    monkeypatch.setattr(registry, "_check_bundle", lambda root, commit: None)
    monkeypatch.setattr(registry, "metadata_of", lambda root, commit: metadata(GOOD))
    first = commit(project, "first")
    registry.promote(project, None, "prod", judge=lambda champion, challenger: pytest.fail("there is none to compare"))
    second = commit(project, "second")
    entry = Entry(datetime(2026, 1, 1, tzinfo=UTC), first, second, "better", 1e-4, "t", 0.01, 0.005, 0.02, 600)
    said = {"refused": True, "told": "worse", "message": f"because\n\n{written(entry)}"}
    asked = []

    def judge(champion: str, challenger: str) -> Judged | None:
        asked.append((champion, challenger))
        return Judged(**said) if said else None

    with pytest.raises(MetaloomError, match=r"^worse; v0.0.\d stays prod: `--force` promotes it though$"):
        registry.promote(project, None, "prod", judge=judge)
    said |= {"refused": False, "told": "better"}
    assert registry.promote(project, None, "prod", judge=judge)[::2] == ("v0.0.2", "better")
    assert asked == [("v0.0.1", second)] * 2 and read_ledger(project) == [entry]
    for tag in ("handoff@v0.0.2", "handoff#prod#2"):
        assert "judged: {" in run_here(project, "git", "tag", "-n9", "-l", tag).stdout
    said.clear()
    assert registry.promote(project, "v0.0.1", "prod", judge=judge)[2].startswith("no worse at armenian")


def test_a_comparison_shows_the_task_handed_off():
    shown = list(lines(Comparison(handoff={"a": GOOD, "b": NEAR})))
    assert "handoff   not clearly worse at armenian: 19.0% (17.0% to 21.0%), before 20.3% (18.0% to 23.0%)" in shown
