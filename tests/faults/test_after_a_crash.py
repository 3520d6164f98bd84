"""What a killed run, a full disk or a reused process number leaves: the next run is whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from projects import locked_stages

from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import StageExit, due_stages, reproduce
from metaloom.system.arrays import reserved
from metaloom.system.lock import BusyError
from metaloom.versioning import leftovers
from metaloom.versioning.data import version_dataset
from metaloom.versioning.project import open_project


@pytest.fixture
def root(standin):
    version_dataset(standin.root)
    reproduce(standin.root, "prepare")
    return standin.root


def holding(root, pid: int, age: float) -> None:
    """Somebody with that PID has said, so many seconds ago, that it writes prepare.txt."""
    path = root / leftovers.READERS
    path.write_text(json.dumps({"write": {str(root / "prepare.txt"): {"pid": pid, "cmd": "dvc repro"}}}))
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"write": {"a": 1}}', '{"x": {}}'])
def test_a_broken_rwlock_is_cleared(root, capfd, content):
    (root / leftovers.READERS).write_text(content)
    assert reproduce(root, "prepare") is StageExit.CURRENT
    assert "rwlock was broken, and nobody holds it: cleared\n" in capfd.readouterr().out


def test_a_pid_that_lives_again_as_another_process_holds_nothing(root, sleeper, capfd):
    holding(root, sleeper, age=100)
    (root / "prepare.txt").write_text("changed")
    assert reproduce(root, "prepare") is StageExit.RESTORED
    assert "rwlock named processes that have ended: cleared\n" in capfd.readouterr().out


def test_a_process_that_holds_it_is_waited_for(root, sleeper):
    holding(root, sleeper, age=-10)
    (root / "prepare.txt").write_text("changed")
    with pytest.raises(BusyError, match=rf"process {sleeper} .*`metaloom doctor`"):
        reproduce(root, "prepare")


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.9])
def test_a_lock_that_was_cut_off_is_put_back(root, standin, capfd, share):
    """Or what is left of it is valid, and DVC's run cache has the entries that it lacks."""
    with open_project(root):
        pass  # as every command does: dvc.lock is whole
    whole = (root / "dvc.lock").read_bytes()
    (root / "dvc.lock").write_bytes(whole[: int(share * len(whole))])
    standin.steps()
    done = reproduce(root, "prepare")
    said = "dvc.lock was cut off: put back" in capfd.readouterr().out
    assert done is (StageExit.CURRENT if said else StageExit.RESTORED) and (said or share == 0.3)
    assert (root / "dvc.lock").read_bytes() == whole and standin.steps() == []


@pytest.mark.parametrize("key", ["size", "nfiles"])
def test_a_lock_that_was_cut_off_between_two_lines_is_put_back(root, capfd, key):
    """An entry ends with its size, a folder's with the number of its files: without them DVC takes it for whole."""
    with open_project(root):
        pass
    whole = (root / "dvc.lock").read_text()
    lines = whole.splitlines(keepends=True)
    (last,) = [place for place, line in enumerate(lines) if f" {key}: " in line][-1:]
    (root / "dvc.lock").write_text("".join(lines[:last] + lines[last + 1 :]))
    leftovers.put_right(root)
    assert (root / "dvc.lock").read_text() == whole
    assert "dvc.lock was cut off: put back as it last was whole" in capfd.readouterr().out


@pytest.mark.parametrize("last", ["", " ", "  path:", "  path: d", "  path: dat"])
def test_a_pointer_that_was_cut_off_in_its_last_line_is_put_back(root, capfd, last):
    """It is legal for DVC, which takes it for one of no folder, or of a folder `dat`."""
    with open_project(root):
        pass
    whole = (root / "data.dvc").read_text()
    assert whole.endswith("\n  path: data\n")
    (root / "data.dvc").write_text(whole.removesuffix("  path: data\n") + last)
    version_dataset(root)
    assert (root / "data.dvc").read_text() == whole
    assert "data.dvc was cut off: put back as it last was whole" in capfd.readouterr().out


def test_a_lock_in_which_no_entry_has_a_size_is_whole(root):
    """As older versions of DVC wrote them."""
    lines = (root / "dvc.lock").read_text().splitlines(keepends=True)
    older = "".join(line for line in lines if not re.search(r" (hash|size|nfiles): ", line))
    (root / "dvc.lock").write_text(older)
    leftovers.put_right(root)
    assert (root / "dvc.lock").read_text() == older


@pytest.mark.parametrize("in_git", [True, False])
@pytest.mark.parametrize(
    ("name", "cut"),
    [("data.dvc", b"outs:\n"), ("dvc.lock", b"schema: '2.0'\nstages:\n  prepare:\n    deps:\n    - pa")],
)
def test_what_plain_dvc_left_cut_off_comes_from_git_or_is_made_again(root, standin, name, cut, in_git):
    """Where no command of ours has seen it whole."""
    whole = (root / name).read_bytes()
    if in_git:
        standin.git("add", "--force", name)
        standin.git("commit", "--quiet", "--message", "whole")
    (root / f".metaloom/{name}.whole").unlink(missing_ok=True)
    (root / name).write_bytes(cut)
    leftovers.put_right(root)
    assert (root / f".metaloom/{name}.broken").read_bytes() == cut
    assert (root / name).read_bytes() == whole if in_git else not (root / name).exists()


def test_a_pointer_that_nothing_can_be_made_of_stays(root):
    (root / "data").rename(root / "elsewhere")
    (root / ".metaloom/data.dvc.whole").unlink()
    (root / "data.dvc").write_bytes(b"outs:\n")
    leftovers.put_right(root)
    assert (root / "data.dvc").read_bytes() == b"outs:\n"


def test_conflicts_of_git_are_left_to_the_user(root):
    conflict = b"<<<<<<< HEAD\n" + (root / "dvc.lock").read_bytes()
    (root / "dvc.lock").write_bytes(conflict)
    with pytest.raises(MetaloomError):
        reproduce(root, "prepare")
    assert (root / "dvc.lock").read_bytes() == conflict


def test_entries_that_got_lost_are_found_again_by_their_hashes(root, standin):
    whole = locked_stages(root)
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    standin.steps()
    assert reproduce(root, "prepare") is StageExit.RESTORED
    assert locked_stages(root) == whole and standin.steps() == [] and "prepare" not in due_stages(root)


@pytest.mark.parametrize("old", [True, False])
def test_a_folder_of_the_run_cache_without_an_entry_is_taken_for_none(root, standin, old):
    """DVC makes the folder, writes a file there and gives it its name: it was killed before it wrote."""
    (root / "dvc.lock").unlink()
    entries = list((root / ".dvc/cache/runs").glob("*/*/*"))
    assert entries
    for entry in entries:
        entry.unlink()
        if old:
            os.utime(entry.parent, (0, 0))
    assert reproduce(root, "prepare") is StageExit.RAN


def test_a_folder_of_the_run_cache_that_is_being_written_to_stays(root):
    fresh = root / ".dvc/cache/runs/ab/abc"
    fresh.mkdir(parents=True)
    due_stages(root)
    assert fresh.is_dir()


def test_dvc_writes_its_lock_whole_or_not_at_all(root, monkeypatch):
    from dvc.utils.serialize import _yaml

    before = (root / "dvc.lock").read_bytes()
    (root / "data/b").write_text("2\n")
    version_dataset(root)

    dump = _yaml._dump

    def full(data, stream):
        if "dvc.lock" not in Path(stream.name).name:  # DVC notes the run elsewhere first
            return dump(data, stream)
        stream.write("schema")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_yaml, "_dump", full)
    with pytest.raises(Exception, match="No space left"):
        reproduce(root, "prepare")
    assert (root / "dvc.lock").read_bytes() == before


def test_room_is_reserved_before_it_is_mapped(tmp_path, monkeypatch):
    array = reserved(tmp_path / "a.npy", np.dtype("uint8"), (10, 100_000))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 1_000_000 and array.shape == (10, 100_000)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        MetaloomError, match=r"has no room for 10 MiB of examples \(No space left on device\): free some"
    ):
        reserved(tmp_path / "b.npy", np.dtype("uint8"), (10, 2**20))


WORKERS = """\
import os, time
from metaloom.system.parallel import parallel_map

def work(piece):
    os.write(1, b"at work\\n")  # in one piece: both write at once
    time.sleep(piece)

if __name__ == "__main__":
    list(parallel_map(work, [0.5, 0.5, 600], workers=2))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    """One is at work, and one waits for more."""
    (tmp_path / "workers.py").write_text(WORKERS)
    parent = subprocess.Popen([sys.executable, "workers.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        parent.stdout.readline()
    children = psutil.Process(parent.pid).children()
    workers = [child for child in children if "--multiprocessing-fork" in child.cmdline()]
    assert len(workers) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
