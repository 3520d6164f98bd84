"""Files that come into data/ while a run reads it: the version that was read is the one that is named."""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from projects import draw_shapes, locked_stages, run_here

from metaloom.errors import MetaloomError
from metaloom.pipeline.due import await_settled, changes
from metaloom.pipeline.stages import StageExit, due_stages, reproduce
from metaloom.system.unchanged import check_named, unchanged, version_of
from metaloom.versioning import objects
from metaloom.versioning.data import version_dataset
from metaloom.versioning.project import open_project

STEP = """\
import os, sys
from pathlib import Path
from metaloom.system.unchanged import unchanged
from metaloom.stages import run_stage

def arrive(moment):
    if os.environ.get("ARRIVES") == moment and Path("late").exists():
        Path("late").replace("data/" + os.environ["PLACE"])

def main(source, destination):
    if destination != "prepare.txt":
        Path(destination).write_text(Path(source).read_text())
        return
    with unchanged(source) as folder:
        text = "".join(path.read_text() for path in sorted(folder.iterdir()))
        arrive("while")
    Path(destination).write_text(text)
    arrive("after")

run_stage(main)
"""


def named(root: Path) -> str:
    return yaml.safe_load((root / "data.dvc").read_text())["outs"][0]["md5"]


def read(root: Path) -> str:
    """The version that dvc.lock says was read."""
    return next(dep["md5"] for dep in locked_stages(root)["prepare"]["deps"] if dep["path"] == "data")


def prepared(root: Path) -> str:
    """What a run trains on."""
    version_dataset(root)
    reproduce(root, "prepare")
    return (root / "prepare.txt").read_text()


@pytest.mark.parametrize("place", [pytest.param("b", marks=pytest.mark.slow), "a"])  # another file, another content
@pytest.mark.parametrize("moment", ["before", "while", "after"])
def test_what_comes_in_between_waits_for_the_next_run(standin, monkeypatch, capfd, moment, place):
    root = standin.root
    (root / "step.py").write_text(STEP)
    (root / "late").write_text("late\n")
    version = version_dataset(root).md5
    monkeypatch.setenv("ARRIVES", moment)
    monkeypatch.setenv("PLACE", place)
    if moment == "before":
        (root / "late").replace(root / "data" / place)
    assert reproduce(root, "prepare") is StageExit.RAN
    assert (root / "data" / place).read_text() == "late\n"
    assert (root / "prepare.txt").read_text() == "1\n"
    assert read(root) == named(root) == version
    assert "what is new waits for the next run" in capfd.readouterr().out

    assert prepared(root) == ("1\nlate\n" if place == "b" else "late\n")
    assert read(root) == named(root) != version
    assert reproduce(root, "prepare") is StageExit.CURRENT
    assert not (root / ".metaloom/reading/data").exists()


def test_settings_that_change_while_a_stage_runs_count_as_not_read(standin):
    root = standin.root
    (root / "later.yaml").write_text((root / "params.yaml").read_text().replace("share: 0.05", "share: 0.06"))
    change = 'arrive("after")\n    Path("later.yaml").replace("params.yaml")'
    (root / "step.py").write_text(STEP.replace('arrive("after")', change))
    prepared(root)
    assert locked_stages(root)["prepare"]["params"]["params.yaml"]["prepare"]["max_bad_share"] == 0.05
    (root / "later.yaml").write_text((root / "params.yaml").read_text())
    assert reproduce(root, "prepare") is StageExit.RAN


def test_without_a_version_a_change_while_reading_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    refused = pytest.raises(MetaloomError, match=r"changed while it was read \(1 file\): `metaloom run` reads")
    with refused, unchanged(str(tmp_path / "data")):
        (tmp_path / "data/new").touch()


NOTING = STEP.replace("import unchanged", "import check_named, unchanged, version_of").replace(
    "main(source, destination)", "main(source, destination, note)"
)
NOTING = NOTING.replace("        Path(destination)", "        check_named(note)\n        Path(destination)", 1).replace(
    '        arrive("while")', "        version = version_of(folder, source)"
)
NOTING = NOTING.replace('    arrive("after")', '    Path(note).write_text(version)\n    arrive("after")')


@pytest.mark.slow
def test_what_comes_before_dvc_looks_is_not_named_as_trained(standin, monkeypatch, capfd):
    """Plain `dvc repro` hashes data/ when `prepare` has ended."""
    root = standin.root
    (root / "step.py").write_text(NOTING)
    dag = yaml.safe_load((root / "dvc.yaml").read_text())
    for stage, also in (("prepare", "outs"), ("train", "deps")):
        dag["stages"][stage]["cmd"] += " data_version.txt"
        dag["stages"][stage][also].append("data_version.txt")
    (root / "dvc.yaml").write_text(yaml.safe_dump(dag))
    standin.dvc("add", "data")
    version = named(root)
    (root / "late").write_text("late\n")
    monkeypatch.setenv("ARRIVES", "after")
    monkeypatch.setenv("PLACE", "b")
    done = run_here(root, "dvc", "repro", check=False)
    assert done.returncode and "`prepare` had read it, and dvc.lock names a version that was not read" in done.stderr
    assert read(root) != version and not (root / "protonet.txt").exists()

    version_dataset(root)
    assert read(root) == named(root) and "prepare" in due_stages(root)
    assert reproduce(root, "prepare") is StageExit.RAN and "prepare reads again" in capfd.readouterr().out
    assert (root / "prepare.txt").read_text() == "1\nlate\n" and "prepare" not in due_stages(root)
    standin.dvc("repro")

    (root / "prepare.txt").unlink()  # DVC's run cache has both, under the version that was named
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    reproduce(root, "prepare")
    assert (root / "prepare.txt").read_text() == "1\nlate\n"


def test_what_other_stages_read_need_not_be_of_this_disk(tmp_path, monkeypatch):
    """DVC's lock has an etag, and no md5, of what a stage reads at a URL."""
    monkeypatch.chdir(tmp_path)
    stages = {
        "fetch": {"deps": [{"path": "https://example.org/more.zip", "etag": '"1"'}], "outs": [{"path": "more.zip"}]},
        "prepare": {"deps": [{"path": "data", "md5": "2.dir"}], "outs": [{"path": "note.txt"}]},
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    Path("note.txt").write_text("2.dir\n")
    check_named("note.txt")
    Path("note.txt").write_text("1.dir\n")
    with pytest.raises(MetaloomError, match="`dvc repro --force prepare`"):
        check_named("note.txt")


def test_a_version_has_dvcs_name(standin):
    root = standin.root
    with (root / ".dvcignore").open("a") as rules:
        rules.write("\n*.tmp\n!kept.tmp\n/data/out/\n")
    for name in (
        *("é/b.png", "é/a b", "z.pyc", "below/__pycache__/x", ".hidden", "a.txt"),
        *("é/x.tmp", "é/kept.tmp", "out/x", "out/kept.tmp"),
    ):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_text(name)
    standin.dvc("add", "data")
    assert version_of(Path("data"), "data") == named(root)
    shutil.move(root / "data", root / "copy")
    assert version_of(Path("copy"), "data") == named(root)


def test_an_upload_that_goes_on_while_data_is_added_leaves_a_version_that_is_whole(standin, monkeypatch):
    from dvc.repo import Repo

    add, turns = Repo.add, iter("12")

    def uploading(repo, target):
        (standin.root / "data/b").write_text(next(turns, "whole"))
        done = add(repo, target)
        if (standin.root / "data/b").read_text() == "1":  # it grew after it was hashed, before it was copied
            stored = Path(repo.cache.local.oid_to_path(objects.md5(standin.root / "data/b")))
            stored.chmod(0o644)
            stored.write_text("11")
            stored.chmod(0o444)
            (standin.root / "data/b").write_text("11")
        return done

    monkeypatch.setattr(Repo, "add", uploading)
    version = version_dataset(standin.root)
    assert version.md5 == named(standin.root)
    assert damaged(standin.root) == []
    monkeypatch.undo()
    (standin.root / "data/c").write_text("3\n")
    assert version_dataset(standin.root).changed  # it can be told which one is meant
    assert damaged(standin.root) == []


def damaged(root: Path) -> list[str]:
    """The files of the version that data.dvc names which the cache has otherwise."""
    with open_project(root) as repo:
        return objects.remove_damaged(repo, objects.saved_tree(repo, named(root)))


@pytest.mark.parametrize(("verb", "left"), [("add", "3\n"), ("checkout", None)])
def test_each_remedy_for_a_state_that_cannot_be_told_works(standin, verb, left):
    root = standin.root
    first = version_dataset(root)
    pointer = (root / "data.dvc").read_text()
    (root / "data/b").write_text("2\n")
    version_dataset(root)
    (root / "data/c").write_text("3\n")
    (root / "data.dvc").write_text(pointer)
    with pytest.raises(MetaloomError) as refused:
        version_dataset(root)
    remedy = next(part for part in str(refused.value).split("`") if part.startswith(f"dvc {verb}"))
    standin.dvc(*remedy.split()[1:])
    assert not version_dataset(root).changed
    assert ((root / "data/c").read_text() if (root / "data/c").exists() else None) == left
    assert (named(root) == first.md5) == (verb == "checkout")


def test_a_scheduled_run_waits_for_data_to_settle(tmp_path):
    (tmp_path / "data/folder").mkdir(parents=True)
    (tmp_path / "data/folder/new").touch()
    born, slept = (tmp_path / "data/folder/new").stat().st_ctime, []
    clock = lambda: born + 10 + sum(slept)  # noqa: E731
    assert await_settled(tmp_path, 30, 600, clock, slept.append) and slept == pytest.approx([20], abs=0.01)
    slept.clear()
    assert await_settled(tmp_path, 5, 600, clock, slept.append) and slept == []
    assert not await_settled(tmp_path, 30, 15, clock, slept.append) and sum(slept) == 15


ARRIVING = """\
import atexit, os, pathlib, shutil, sys
left = int(os.environ.get("ARRIVES_AFTER", -1))
late = pathlib.Path("late")

def arrive():
    if late.exists():
        late.rename("data/domain0/late")

if "metaloom.stages.prepare" in sys.orig_argv and left >= 0:
    plain = pathlib.Path.read_bytes
    def counted(path):
        global left
        left -= 1
        if left < 0:
            arrive()
        return plain(path)
    pathlib.Path.read_bytes = counted
    atexit.register(arrive)
"""


MOMENTS = [*range(0, 323, 17), 1000]
SLOW = random.Random(19).sample(MOMENTS, 10)  # of them in `make test-slow`


def marks(moment: int) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow if moment in SLOW else pytest.mark.sweep]


@pytest.mark.parametrize("moment", [pytest.param(moment, marks=marks(moment)) for moment in MOMENTS])
def test_files_that_arrive_at_twenty_moments_are_all_trained_by_the_next_run(
    project, tmp_path_factory, moment, monkeypatch
):
    """The moments are numbers of files that `prepare` has read, of 320; the last one is when it has ended."""
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(ARRIVING)
    draw_shapes(hook / "drawn", domains=1, classes=1, seed=1)
    shutil.move(hook / "drawn/domain0/class0", project / "late")
    first = version_dataset(project).md5
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", f"{hook}:{project / 'src'}")
    monkeypatch.setenv("ARRIVES_AFTER", str(moment))
    reproduce(project, "prepare")
    assert not (project / "late").exists()
    items = pd.read_parquet(project / "artifacts/dataset/items.parquet")
    assert read(project) == named(project) == first and len(items) == 320
    version_dataset(project)
    reproduce(project, "prepare")
    items = pd.read_parquet(project / "artifacts/dataset/items.parquet")
    assert read(project) == named(project) != first and "domain0/late" in set(items["class"])


def test_a_file_drop_is_seen_when_it_has_settled(tmp_path):
    """At the start; when a file came, but not before it is 30 s old; when one goes."""
    path, now = tmp_path / "data/b", [time.time() + 100]

    def sleep(seconds):
        now[0] += seconds

    def seconds_until_seen():
        before = now[0]
        next(looks)
        return now[0] - before

    looks = changes(tmp_path, 30, 10, lambda: now[0], sleep)
    path.parent.mkdir()
    assert seconds_until_seen() == 0
    path.touch()
    now[0] = path.stat().st_ctime
    assert seconds_until_seen() == 30
    now[0] += 1000  # in which it would have been seen again
    path.unlink()
    assert seconds_until_seen() == 10
