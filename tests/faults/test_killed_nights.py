"""A retraining killed with all its processes at moments that are chosen by number: nothing is lost, nothing is half
promoted, and the next night makes what an undisturbed one makes, to the last byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import together
from killed import at_clock, git, outcome, refs, settle_locks
from moments import NEVER, Commands, commands, sampled
from nights import ALPHA, BEGAN, NIGHT, Project, share, template

from metaloom.judging.ledger import entries
from metaloom.judging.records import read_ledger

MOMENTS, SEED = 100, 22
SLOW = 10  # of them in `make test-slow`, the others in `make sweep`
HOURS = 4 * 3600.0  # between a kill and the next try, on the same date
TAGS = ("handoff@v0.0.1", "handoff#prod#1", "handoff@v0.0.2", "handoff#prod#2")


@pytest.fixture(scope="module")
def nights():
    """What runs a night, again and again."""
    with commands("one_night") as forked:
        yield forked


def assert_nothing_lost(root: Path) -> None:
    """Right after the kill: the checkout, what was there before, and no stage that is half moved for others."""
    project, origin = root / "project", root / "origin.git"
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "rev-parse", "HEAD") == git(project, "rev-parse", "origin/main")
    assert json.loads((project / "data/a").read_text())["metrics"]["task"]["accuracy"] == 0.7
    here, there = refs(project, "refs/tags"), refs(origin, "refs/tags")
    for found in (here, there):
        assert {f"refs/tags/{tag}" for tag in TAGS[:2]} <= set(found)
    assert len(there) in (2, 4), "half of the tags have arrived"
    for ref, commit in there.items():
        assert commit in refs(origin, "refs/heads/retrain").values(), ref
        files = {path.name for path in (root / "store").rglob("*") if path.is_file()}
        lock = git(origin, "show", f"{commit}:dvc.lock")
        (bundle,) = [line.split()[1] for line in lock.splitlines() if line.strip().endswith(".dir")][-1:]
        assert bundle[2:] in files, f"the bundle of {ref} is not in DVC's remote"


def undisturbed(folder: Path, nights: Commands) -> None:
    """Fill a folder with the project before its second night, what that leaves, and the moments chosen from it."""
    before = folder / "before"
    before.mkdir()
    shutil.copytree(together.once("retrained", template), before / "project", symlinks=True)
    project = Project(before / "project", [])
    project.data(0.5)
    share(project, before)
    scratch = folder / "scratch"
    scratch.mkdir()
    assert nights.run(before, scratch, environment=at_clock(BEGAN)) == 0, (scratch / "printed").read_text()
    project.data(0.7)
    after = Path(shutil.copytree(before, folder / "after", symlinks=True))
    moments = nights.killed_at(after, NEVER, scratch, environment=at_clock(BEGAN + NIGHT))
    expected = {"outcome": outcome(after), "numbers": sampled(moments, MOMENTS, SEED), "moments": moments}
    (folder / "made.json").write_text(json.dumps(expected))


def marks(index: int) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow if index < SLOW else pytest.mark.sweep]


@pytest.mark.parametrize("index", [pytest.param(index, marks=marks(index)) for index in range(MOMENTS)])
def test_the_night_after_a_kill_is_whole(tmp_path, nights, index):
    made = together.once("killed_nights", lambda folder: undisturbed(folder, nights))
    expected = json.loads((made / "made.json").read_text())
    root = Path(shutil.copytree(made / "before", tmp_path / "root", symlinks=True))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    clock = BEGAN + NIGHT
    *_, last = nights.killed_at(root, expected["numbers"][index], scratch, environment=at_clock(clock))
    assert_nothing_lost(root)
    settle_locks(root, HOURS)
    code = nights.run(root, scratch, environment=at_clock(clock + HOURS))
    assert code == 0, f"{last}\n{(scratch / 'printed').read_text()}"
    assert outcome(root) == expected["outcome"], last
    assert sum(each.alpha for each in read_ledger(root / "project")) == ALPHA, last
    (told,) = set(entries(git(root / "origin.git", "for-each-ref", "--format=%(contents)", "refs/tags")))
    assert told.challenger in refs(root / "origin.git", "refs/heads/retrain").values(), last
    assert nights.run(root, scratch, environment=at_clock(clock + NIGHT)) == 0
    assert "nothing is new" in (scratch / "printed").read_text().splitlines()[-1], last
