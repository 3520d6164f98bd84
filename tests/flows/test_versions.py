"""Versions of data/: what becomes one, what is restored, what is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from projects import REPO

from metaloom.config import OVERRIDES
from metaloom.errors import MetaloomError
from metaloom.versioning.data import DataVersion, held_version, version_data, version_dataset


def named(root: Path) -> str:
    return yaml.safe_load((root / "data.dvc").read_text())["outs"][0]["md5"]


def never(folder: Path) -> None:
    raise AssertionError("the embedded default was built")


def dataset(root: Path, **more) -> DataVersion:
    return version_dataset(root, build=more.pop("build", never), **more)


def test_first_version(standin):
    version = dataset(standin.root)
    assert version.changed and version.md5 == named(standin.root) == held_version(standin.root)
    assert "the first: 1 file" in version.message
    assert standin.dvc("status", "data.dvc").strip() == "Data and pipelines are up to date."
    assert standin.git("status", "--short") == "?? data.dvc\n"


def test_unchanged_data_is_left_alone(standin):
    first = dataset(standin.root)
    before = (standin.root / "data.dvc").stat().st_mtime_ns
    second = dataset(standin.root, locked=True)
    assert not second.changed and second.md5 == first.md5
    assert (standin.root / "data.dvc").stat().st_mtime_ns == before


def test_the_message_counts_what_changed(standin):
    dataset(standin.root)
    (standin.root / "data/a").write_text("2\n")
    (standin.root / "data/b").write_text("3\n")
    (standin.root / "data/c").write_text("3\n")
    assert "2 files added, 1 file modified;" in version_data(standin.root).message
    (standin.root / "data/c").unlink()
    assert ": 1 file removed;" in version_data(standin.root).message


@pytest.mark.parametrize("committed", [True, False])
def test_the_way_back_that_the_message_names_leads_back(standin, committed):
    first = dataset(standin.root)
    if committed:
        standin.git("add", "data.dvc")
        standin.git("commit", "-qm", "data")
    (standin.root / "data/a").write_text("changed by hand\n")
    changed = dataset(standin.root)
    assert changed.changed and changed.md5 == named(standin.root) != first.md5
    command = changed.message.split("to go back: ")[1]
    assert command.startswith("git checkout data.dvc" if committed else "cp .metaloom/data-")
    standin.call("sh", "-c", command)
    assert (standin.root / "data/a").read_text() == "1\n"
    assert dataset(standin.root) == DataVersion(first.md5, False, f"data/ is version {first.md5[:8]}, unchanged")


def test_locked_refuses_a_change_by_hand(standin):
    first = dataset(standin.root)
    (standin.root / "data/b").write_text("by hand\n")
    with pytest.raises(MetaloomError, match=r"1 file added.*without --locked.*dvc checkout data.dvc"):
        dataset(standin.root, locked=True)
    assert named(standin.root) == first.md5
    assert (standin.root / "data/b").read_text() == "by hand\n"


def test_locked_refuses_data_without_a_version(standin):
    with pytest.raises(MetaloomError, match="no version yet"):
        dataset(standin.root, locked=True)
    assert not (standin.root / "data.dvc").exists()


def test_undoing_by_hand_makes_the_old_version_the_new_one(standin):
    first = dataset(standin.root)
    (standin.root / "data/b").write_text("2\n")
    dataset(standin.root)
    (standin.root / "data/b").unlink()
    assert dataset(standin.root).md5 == first.md5 == named(standin.root)
    assert not (standin.root / "data/b").exists()


def test_data_follows_a_pointer_that_moved(standin):
    first = dataset(standin.root)
    pointer = (standin.root / "data.dvc").read_text()
    (standin.root / "data/b").write_text("2\n")
    dataset(standin.root)
    (standin.root / "data.dvc").write_text(pointer)  # what `git checkout` or `git pull` does
    version = dataset(standin.root, locked=True)
    assert version.md5 == first.md5 == held_version(standin.root)
    assert "now holds version" in version.message
    assert not (standin.root / "data/b").exists()


def test_both_changed_is_refused_and_nothing_is_lost(standin):
    dataset(standin.root)
    pointer = (standin.root / "data.dvc").read_text()
    (standin.root / "data/b").write_text("2\n")
    dataset(standin.root)
    (standin.root / "data/c").write_text("unsaved\n")
    (standin.root / "data.dvc").write_text(pointer)
    with pytest.raises(MetaloomError, match=r"cannot be told: `dvc add data` keeps.*`dvc checkout --force data.dvc`"):
        dataset(standin.root)
    assert (standin.root / "data/c").read_text() == "unsaved\n"


def test_absent_data_comes_from_the_cache(standin):
    first = dataset(standin.root)
    shutil.rmtree(standin.root / "data")
    version = dataset(standin.root)
    assert version.md5 == first.md5 and "restored" in version.message
    assert (standin.root / "data/a").read_text() == "1\n"
    (standin.root / "data/a").write_text("can be written\n")


def test_an_emptied_folder_counts_as_absent(standin):
    dataset(standin.root)
    (standin.root / "data/a").unlink()
    dataset(standin.root)
    assert (standin.root / "data/a").read_text() == "1\n"


def test_a_clone_pulls_from_the_remote(standin, tmp_path):
    first = dataset(standin.root)
    standin.dvc("remote", "add", "-d", "store", str(tmp_path / "store"))
    standin.dvc("push", "-q")
    standin.git("add", "-A", ".")
    standin.git("commit", "-qm", "data")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", standin.root, clone], check=True)
    assert dataset(clone).md5 == first.md5
    assert (clone / "data/a").read_text() == "1\n"


@pytest.mark.parametrize("remote", [False, True])
def test_a_version_that_is_nowhere_is_said_so(standin, tmp_path, remote):
    first = dataset(standin.root)
    if remote:
        standin.dvc("remote", "add", "-d", "store", str(tmp_path / "store"))
    shutil.rmtree(standin.root / "data")
    shutil.rmtree(standin.root / ".dvc/cache")
    with pytest.raises(MetaloomError, match=rf"{first.md5[:8]}.*neither.*`dvc pull`.*`metaloom data add PATH`"):
        version_dataset(standin.root, build=lambda folder: (folder / "a").write_text("another\n"))
    assert [path.name for path in standin.root.glob(".data*")] == []
    assert not (standin.root / "data").exists()


def test_the_embedded_default_of_the_same_version_takes_its_place(standin):
    first = dataset(standin.root)
    shutil.rmtree(standin.root / "data")
    shutil.rmtree(standin.root / ".dvc/cache")
    version = version_dataset(standin.root, build=lambda folder: (folder / "a").write_text("1\n"))
    assert version.md5 == first.md5 and "embedded" in version.message
    assert standin.dvc("status", "data.dvc").strip() == "Data and pipelines are up to date."


def test_the_embedded_default_without_any_version(standin):
    shutil.rmtree(standin.root / "data")
    version = version_dataset(standin.root, build=lambda folder: (folder / "z").write_text("1\n"))
    assert version.md5 == named(standin.root)
    assert (standin.root / "data/z").exists()


def test_a_kind_without_an_embedded_default_asks_for_data(standin, monkeypatch):
    shutil.rmtree(standin.root / "data")
    shutil.copy(REPO / "params.yaml", standin.root)
    monkeypatch.setenv(OVERRIDES, '{"kind": "vectors"}')
    with pytest.raises(MetaloomError, match="data/ is absent, and no rows come with metaloom: add yours"):
        version_dataset(standin.root)
    assert not (standin.root / "data").exists() and not (standin.root / "data.dvc").exists()


def test_a_build_that_fails_leaves_nothing(standin):
    shutil.rmtree(standin.root / "data")

    def build(folder: Path) -> None:
        (folder / "half").write_text("")
        raise MetaloomError("no fonts")

    with pytest.raises(MetaloomError, match="no fonts"):
        version_dataset(standin.root, build=build)
    assert not (standin.root / "data").exists() and not (standin.root / "data.dvc").exists()


def test_no_data_is_no_version(standin):
    shutil.rmtree(standin.root / "data")
    with pytest.raises(MetaloomError, match="holds no files"):
        version_data(standin.root)


FOREIGN = {".dvc/config": "data/mine is a project of DVC's, not data"} | dict.fromkeys(
    (".dvcignore", "x.dvc", "dvc.yaml"), r"data/mine/\S+ is one of DVC's own files.*remove it there"
)


@pytest.mark.parametrize("name", FOREIGN)
def test_data_with_a_file_of_dvcs_own_get_no_version(standin, name):
    """DVC would leave out the folder of another project without a word, and refuse the others in words of its own."""
    dataset(standin.root)
    before = (standin.root / "data.dvc").read_bytes()
    own = standin.root / "data/mine" / name
    own.parent.mkdir(parents=True)
    own.touch()
    for make in (dataset, version_data):
        with pytest.raises(MetaloomError, match=FOREIGN[name]):
            make(standin.root)
    assert (standin.root / "data.dvc").read_bytes() == before


def test_without_dvc_the_message_says_what_to_do(standin):
    shutil.rmtree(standin.root / ".dvc")
    with pytest.raises(MetaloomError, match="dvc init"):
        dataset(standin.root)


def test_committed_data_that_were_never_here_are_told_calmly_and_come_back(standin):
    """A fresh clone whose first data are the user's own: neither damage nor loss, and the way back leads back."""
    first = dataset(standin.root)
    standin.git("add", "data.dvc")
    standin.git("commit", "-qm", "data")
    for folder in ("data", ".dvc/cache", ".metaloom"):
        shutil.rmtree(standin.root / folder)
    (standin.root / "data").mkdir()
    (standin.root / "data/mine").write_text("2\n")
    own = version_data(standin.root)
    assert own.message.startswith(
        f"data/ is now version {own.md5[:8]}: 1 file; in place of the data set that is committed"
    )
    assert own.message.endswith("git checkout data.dvc && metaloom run") and "remote" not in own.message
    standin.git("checkout", "data.dvc")
    with pytest.raises(MetaloomError, match=rf"{first.md5[:8]}.*neither DVC's cache nor a remote"):
        dataset(standin.root, build=lambda folder: (folder / "a").write_text("another\n"))
    assert (standin.root / "data/mine").read_text() == "2\n"
    back = dataset(standin.root, build=lambda folder: (folder / "a").write_text("1\n"))
    assert back.md5 == first.md5 and not (standin.root / "data/mine").exists()
