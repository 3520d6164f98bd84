"""A retraining killed with all its processes at moments that are chosen by number: nothing is lost, nothing is half
promoted, and the next night makes what an undisturbed one makes, to the last byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import together
from moments import NEVER, Commands, commands, sampled
from nights import ALPHA, BEGAN, NIGHT, Project, share, template

from metaloom.judging.ledger import entries
from metaloom.judging.records import read_ledger
from metaloom.retraining.nights import Night

MOMENTS, SEED = 100, 22
SLOW = 10  # of them in `make test-slow`, the others in `make sweep`
HOURS = 4 * 3600.0  # between a kill and the next try, on the same date
OTHERS = ("refs/remotes/origin/main", "refs/notes/judge", "refs/notes/judge-there")  # notes have times: read_ledger
TAGS = ("handoff@v0.0.1", "handoff#prod#1", "handoff@v0.0.2", "handoff#prod#2")


@pytest.fixture(scope="module")
def nights():
    """What runs a night, again and again."""
    with commands("retrain") as forked:
        yield forked


def at_clock(clock: float) -> dict[str, str]:
    return {"CLOCK": str(clock), "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def refs(there: Path, prefix: str) -> dict[str, str]:
    """Of a repository: names with the commits that they stand for."""
    told = "--format=%(refname) %(objectname) %(*objectname)"
    lines = git(there, "for-each-ref", told, prefix).splitlines()
    return {name: ids[-1] for name, *ids in map(str.split, lines)}


def git(there: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", there, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def trees(there: Path, prefix: str) -> dict[str, str]:
    """The same, with the content of the commits, as their dates may differ."""
    return {name: git(there, "rev-parse", f"{commit}^{{tree}}") for name, commit in refs(there, prefix).items()}


def said(night: Night) -> tuple[str, str]:
    """The verdict without its evidence, in which a commit is named."""
    return night.verdict.get("outcome", ""), night.verdict.get("message", "")


def outcome(root: Path) -> dict[str, object]:
    """What a night leaves here and in the remotes: branches and tags with their content, and each file of DVC's."""
    both = {name: trees(root / name, "refs") for name in ("project", "origin.git")}
    for found in both.values():
        for name in OTHERS:
            found.pop(name, None)
    stores = (root / "store", root / "project/.dvc/cache/files")
    files = [path for store in stores for path in store.rglob("??/[!.]*") if path.is_file()]  # .*.tmp is half an object
    sums = {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}  # noqa: S324
    project = Project(root / "project", [])
    ledger = [(each.outcome, each.alpha, each.gain, each.episodes) for each in read_ledger(root / "project")]
    ended = [(each.data, each.champion, each.outcome, each.version, said(each)) for each in project.nights()]
    found = {"refs": both, "files": sums, "ledger": ledger, "nights": [each for each in ended if each[2]]}
    return json.loads(json.dumps(found))


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
    for lock in (root / "project/.git").rglob("*.lock"):
        os.utime(lock, (time.time() - HOURS,) * 2)
    for lock in (root / "origin.git").rglob("*.lock"):
        lock.unlink()  # a server outlives its client, and removes them itself
    code = nights.run(root, scratch, environment=at_clock(clock + HOURS))
    assert code == 0, f"{last}\n{(scratch / 'printed').read_text()}"
    assert outcome(root) == expected["outcome"], last
    assert sum(each.alpha for each in read_ledger(root / "project")) == ALPHA, last
    (told,) = set(entries(git(root / "origin.git", "for-each-ref", "--format=%(contents)", "refs/tags")))
    assert told.challenger in refs(root / "origin.git", "refs/heads/retrain").values(), last
    assert nights.run(root, scratch, environment=at_clock(clock + NIGHT)) == 0
    assert "nothing is new" in (scratch / "printed").read_text().splitlines()[-1], last
