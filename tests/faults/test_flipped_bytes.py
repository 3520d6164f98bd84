"""One byte of a file is another one, and its size and times are as they were: nobody takes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import StageExit, is_current, reproduce
from metaloom.versioning.data import version_dataset
from metaloom.versioning.project import open_project


def flip(path: Path) -> None:
    """As a disk does it."""
    before, mode = path.stat(), path.stat().st_mode
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def stored(root: Path, name: str) -> Path:
    """The file in DVC's cache of an output of `prepare` or of data/."""
    lock = yaml.safe_load((root / "dvc.lock").read_text())["stages"]["prepare"]
    md5 = next(out["md5"] for out in lock["outs"] if out["path"] == name)
    return root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


@pytest.fixture
def root(standin) -> Path:
    version_dataset(standin.root)
    reproduce(standin.root, "prepare")
    standin.steps()
    return standin.root


def remote(root: Path, standin) -> Path:
    standin.dvc("remote", "add", "-d", "store", str(root / "store"))
    standin.dvc("push", "-q")
    return root / "store"


def test_an_output_is_put_back_from_the_cache(root, standin, capfd):
    right = (root / "prepare.txt").read_text()
    flip(root / "prepare.txt")
    assert not is_current(root, "prepare")
    assert reproduce(root, "prepare") is StageExit.CURRENT
    assert "prepare.txt is damaged: put back" in capfd.readouterr().out
    assert (root / "prepare.txt").read_text() == right and standin.steps() == []
    assert is_current(root, "prepare")


@pytest.mark.parametrize("pushed", [True, False])
def test_an_output_that_is_damaged_in_the_cache_too_is_fetched_or_made_again(root, standin, pushed):
    right = (root / "prepare.txt").read_text()
    if pushed:
        remote(root, standin)
    flip(stored(root, "prepare.txt"))
    flip(root / "prepare.txt")
    assert reproduce(root, "prepare") is (StageExit.CURRENT if pushed else StageExit.RAN)
    assert (root / "prepare.txt").read_text() == right == stored(root, "prepare.txt").read_text()
    assert standin.steps() == ([] if pushed else ["prepare.txt"])


def test_what_dvc_restores_from_a_damaged_cache_is_made_again(root, standin):
    right = (root / "prepare.txt").read_text()
    flip(stored(root, "prepare.txt"))
    (root / "prepare.txt").unlink()
    assert reproduce(root, "prepare") is StageExit.RAN
    assert (root / "prepare.txt").read_text() == right and standin.steps() == ["prepare.txt"]


@pytest.mark.parametrize("pushed", [True, False])
def test_data_that_are_damaged_in_the_cache_are_fetched_or_refused(root, standin, pushed):
    if pushed:
        remote(root, standin)
    with open_project(root) as repo:
        flip(Path(repo.cache.local.oid_to_path(_oid(root / "data/a"))))
    shutil.rmtree(root / "data")
    if pushed:
        version_dataset(root)
        assert (root / "data/a").read_text() == "1\n"
        return
    with pytest.raises(MetaloomError, match=r"a of data version \w+ is damaged in DVC's cache, and no remote has it"):
        version_dataset(root)
    assert not (root / "data").exists()


def test_what_a_remote_has_damaged_is_not_taken(root, standin):
    store = remote(root, standin)
    oid = _oid(root / "data/a")
    flip(store / "files/md5" / oid[:2] / oid[2:])
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc/cache")
    with pytest.raises(MetaloomError, match="in neither DVC's cache nor a remote"):
        version_dataset(root, build=lambda folder: (folder / "z").write_text("another\n"))
    assert not (root / "data").exists()


def _oid(path: Path) -> str:
    import hashlib

    return hashlib.md5(path.read_bytes()).hexdigest()
