"""`metaloom data purge`: afterwards nothing holds the example's bytes, and nobody takes that for damage."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from projects import environment
from small_project import commit
from test_remove import files, metaloom_data
from test_rename import listed
from typer.testing import CliRunner

from metaloom.cli.data import app
from metaloom.data.add import NOTE
from metaloom.errors import MetaloomError
from metaloom.system.lock import BusyError
from metaloom.versioning import purging
from metaloom.versioning.data import ADDING, data_lock, version_data, version_dataset
from metaloom.versioning.exporting import listed_at
from metaloom.versioning.health import of_hashes, of_purged
from metaloom.versioning.project import open_project
from metaloom.versioning.purged import PURGED, note_purged, purged
from metaloom.versioning.remotes import push_version

PATH = "data/domain1/class0/0.png"


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, env=environment(), capture_output=True)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def holding(root: Path, content: bytes) -> set[str]:
    """Files anywhere below a folder with these bytes; those of git, which packs them, are not looked at."""
    found = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(root)) for path in found if path.read_bytes() == content}


def test_a_purged_example_is_nowhere_and_nothing_is_damaged(small):
    content, oid, other = (small / PATH).read_bytes(), md5(small / PATH), "data/domain0/class0/new0.png"
    cached = f".dvc/cache/files/md5/{oid[:2]}/{oid[2:]}"
    shutil.copy(small / PATH, small / "copy.png")
    places = {PATH, other, cached, f"remote/files/md5/{oid[:2]}/{oid[2:]}", "copy.png"}
    assert holding(small, content) == places
    asked = CliRunner().invoke(app, ["purge", PATH], input="n\n")
    lines = asked.output.splitlines()
    assert asked.exit_code == 0 and lines[:5] == [
        f"hash: {oid}",
        f"in {other}",
        f"in {PATH}",
        "in DVC's cache",
        "in the remote backup",
    ]
    assert lines[5].startswith("in versions of data/ that can then not be checked out whole any more: ")
    assert lines[5].endswith("(named by 2 of the commits that changed data.dvc)")
    assert lines[6].startswith("not purged: models and bundles of version v0.1.0 were made") and lines[7].endswith(
        ": copy.png is the same file"
    )
    assert "[y/N]" in lines[8] and holding(small, content) == places and not Path(PURGED).exists()

    said = metaloom_data("purge", PATH, "--yes").splitlines()
    assert f"purged: {oid}" in said and said[-1].startswith("commit purged.yaml and data.dvc; ")
    assert holding(small, content) == {"copy.png"}
    assert purged(small) == {oid} and PATH not in files(small)
    with open_project(small, lock=True) as repo:
        assert not any(stage.changed() for stage in repo.index.stages if stage.path.endswith("data.dvc"))
    assert list(of_hashes(small)) == [] and list(of_purged(small)) == []
    with pytest.raises(MetaloomError, match=f"^{oid}: neither data/ nor DVC's cache nor a remote holds it$"):
        metaloom_data("purge", oid)

    shown = [line.split("\t") for line in metaloom_data("list", "--versions").splitlines()]
    assert [(line[3], line[5]) for line in shown[:-1]] == [(f"{n} files", "some of it was purged") for n in (10, 9)]
    assert shown[0][6] == "main" and shown[1][6] == "handoff#prod#1, handoff@v0.1.0"
    commit("purged")
    git("checkout", "-q", "handoff@v0.1.0")  # its data name what was purged, and purged.yaml is not there
    assert purged(small) == {oid}
    with pytest.raises(
        MetaloomError, match=r"has 2 examples that were purged since \(purged.yaml\), and cannot be had"
    ):
        version_dataset(small)
    git("checkout", "main", "data.dvc")
    assert not version_dataset(small).changed and list(of_hashes(small)) == []

    Path(cached).parent.mkdir(exist_ok=True)
    Path(cached).write_bytes(content)  # from another clone, say
    (fault,) = of_purged(small)
    assert fault.what == "1 example in DVC's cache was purged (purged.yaml)" and fault.fix and fault.fix()
    assert holding(small, content) == set()  # copy.png went into a commit


def test_bad_input_is_one_line_and_changes_nothing(small, monkeypatch):
    for path in sorted((small / "data/domain1/class1").iterdir())[1:]:
        path.unlink()
    (last,) = (small / "data/domain1/class1").iterdir()
    shutil.make_archive("data/packed", "zip", "data/domain0")
    before = files(small)
    cases = {
        f"domain1/class1/{last.name}": "is the last example of domain1/class1: `metaloom data remove domain1/class1` "
        f"takes the class out, then `metaloom data purge {md5(last)}`",
        "domain1/class9": "there is no data/domain1/class9, and no version of data/",
        "domain1/class0/none.png": "there is no data/domain1/class0/none.png, and no version of data/",
        "packed.zip": "data/packed.zip holds many examples: make it again without the one, add it",
        "packed.zip/class0/0.png": "data/packed.zip holds many examples",
        "packed.zip#3": "data/packed.zip holds many examples",
        "0" * 32: "neither data/ nor DVC's cache nor a remote holds it",
        "0" * 64: "no file in data/ or DVC's cache has this SHA-256",
        "../params.yaml": "give the path of one example in data/",
        "": "give the path of one example in data/",
        "a\0b": "has a NUL character",
    }
    for name, words in cases.items():
        with pytest.raises(MetaloomError, match=words) as error:
            metaloom_data("purge", name, "--yes")
        assert "\n" not in str(error.value), name
    monkeypatch.setattr(purging, "unreached", lambda repo, name: "no route")
    with pytest.raises(BusyError, match=r"^remote backup does not answer \(no route\), and may hold it"):
        metaloom_data("purge", "domain1/class0/1.png", "--yes")
    with pytest.raises(MetaloomError, match=r"^data/packed.zip holds it too, as class0/new0.png: make that archive"):
        metaloom_data("purge", PATH, "--yes")
    after = files(small)
    assert {path: it for path, it in after.items() if path[0] != "."} == {
        path: it for path, it in before.items() if path[0] != "."
    }
    assert before.keys() - after.keys() == set()


@pytest.mark.parametrize("name", ["domain1/class1", "domain1"])
def test_a_class_and_a_domain_are_nowhere_afterwards(small, name):
    shutil.copytree(small / "data/domain0", small / "data/domain2")  # so that two domains are left, of other pictures
    for number, path in enumerate(sorted((small / "data/domain2").rglob("*.png"))):
        with path.open("ab") as file:
            file.write(bytes(number + 5))
    gone_before = small / "data/domain1/class1/older.png"
    gone_before.write_bytes((small / "data/domain1/class1/0.png").read_bytes() + b"older")
    contents = [gone_before.read_bytes()]
    version_data(small)
    commit("with one more")
    push_version(small, "main")
    gone_before.unlink()
    version_data(small)
    commit("without it")
    paths = [path for path in (small / "data" / name).rglob("*") if path.is_file()]
    contents += [path.read_bytes() for path in paths]
    hashes = {hashlib.md5(content).hexdigest() for content in contents}
    kept = {path: content for path, content in files(small).items() if path.startswith("data/domain2/")}
    assert all(holding(small, content) for content in contents)

    asked = CliRunner().invoke(app, ["purge", name], input="n\n").output.splitlines()
    assert asked[0].startswith(f"{len(hashes)} files, by hash: ") and "in data/domain1/class1: 2 files" in asked
    assert "in DVC's cache" in asked and "in the remote backup" in asked
    assert all(holding(small, content) for content in contents) and not Path(PURGED).exists()

    said = metaloom_data("purge", name, "--yes").splitlines()
    assert f"purged: {len(hashes)} files" in said and said[-1].startswith("commit purged.yaml and data.dvc; ")
    assert [content for content in contents if holding(small, content)] == []
    assert purged(small) == hashes and not (small / "data" / name).exists()
    assert {path: content for path, content in files(small).items() if path in kept} == kept
    assert list(of_hashes(small)) == [] and list(of_purged(small)) == []
    with open_project(small, lock=True) as repo:
        assert not any(stage.changed() for stage in repo.index.stages if stage.path.endswith("data.dvc"))
    with pytest.raises(MetaloomError, match="neither data/ nor DVC's cache nor a remote holds it"):
        metaloom_data("purge", name, "--yes")


def test_a_domain_in_an_archive_goes_by_its_name(small):
    shutil.make_archive("data/packed", "zip", "data/domain1")
    version_data(small)
    content = (small / "data/packed.zip").read_bytes()
    with pytest.raises(MetaloomError, match="data/packed.zip holds many examples"):
        metaloom_data("purge", "packed/class0", "--yes")
    metaloom_data("purge", "packed", "--yes")
    assert holding(small, content) == set() and not Path("data/packed.zip").exists()


def test_the_last_class_and_the_last_domain_are_refused_in_one_line(small):
    metaloom_data("remove", "domain1/class1")
    before = files(small / "data")
    with pytest.raises(MetaloomError) as last:
        metaloom_data("purge", "domain1/class0", "--yes")
    assert str(last.value) == (
        "data/domain1/class0 is the last class of domain1: `metaloom data purge domain1` takes out the whole domain"
    )
    with pytest.raises(MetaloomError) as same:
        shutil.rmtree("data/domain0/class0")
        shutil.copytree("data/domain1/class0", "data/domain0/class0")
        version_data(small)
        metaloom_data("purge", "domain1", "--yes")
    assert str(same.value) == (
        "the last examples of domain0/class0 are the same files as some of data/domain1: `metaloom data remove "
        "domain0/class0` takes the class out first"
    )
    metaloom_data("remove", "domain0")
    with pytest.raises(MetaloomError) as everything:
        metaloom_data("purge", "domain1", "--yes")
    assert str(everything.value).startswith("data/domain1 is all that data/ has: put other data in its place with ")
    assert "\n" not in str(everything.value) + str(same.value)
    assert set(files(small / "data")) < set(before)


def test_a_class_that_was_killed_midway_is_purged_by_the_same_command(small, monkeypatch):
    name = "domain0/class1"
    contents = [path.read_bytes() for path in (small / "data" / name).iterdir()]

    def killed(root):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(purging, "version_data", killed)
        with pytest.raises(KeyboardInterrupt):
            purging.purge(small, purging.find_purge(small, name, listed), listed)
    assert not (small / "data" / name).exists()
    metaloom_data("purge", name, "--yes")
    assert [content for content in contents if holding(small, content)] == []


def test_what_was_removed_before_is_found_by_its_path_and_by_its_sha256(small):
    content, oid = (small / PATH).read_bytes(), md5(small / PATH)
    sha = hashlib.sha256(content).hexdigest()
    metaloom_data("remove", "domain1/class0")
    os.unlink("data/domain0/class0/new0.png")
    for name in (PATH, sha):
        asked = CliRunner().invoke(app, ["purge", name], input="n\n")
        assert asked.output.splitlines()[:2] == [f"hash: {oid}", "in DVC's cache"], name
    said = metaloom_data("purge", sha, "--yes").splitlines()
    assert said[-1].startswith("commit purged.yaml and data.dvc; ") and holding(small, content) == set()


def test_killed_midway_the_hash_does_the_rest(small, monkeypatch):
    content, oid = (small / PATH).read_bytes(), md5(small / PATH)

    def killed(root):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(purging, "version_data", killed)
        with pytest.raises(KeyboardInterrupt):
            purging.purge(small, purging.find_purge(small, PATH, listed), listed)
    assert purged(small) == {oid} and PATH not in files(small)
    said = metaloom_data("purge", oid, "--yes").splitlines()
    assert holding(small, content) == set()
    assert said[-1].startswith("commit purged.yaml and data.dvc; ")  # whose version had it


def test_a_list_of_hashes_that_is_none_is_refused(tmp_path):
    (tmp_path / PURGED).write_text("# about\n- " + "1" * 32 + "\n")
    assert purged(tmp_path) == {"1" * 32}
    (tmp_path / PURGED).write_text("- 123\n")
    with pytest.raises(MetaloomError, match=r"'- 123' is no hash: `git checkout purged.yaml` restores the last one"):
        purged(tmp_path)


def killed_addition(root: Path, domain: str, is_out: bool) -> Path:
    """What `metaloom data add --replace` of a domain with one picture more leaves; where that picture is then to be."""
    adding = root / ADDING
    shutil.copytree(root / "data" / domain, adding / "new")
    shutil.copy(root / PATH, adding / "new/class1/more.png")
    (adding / NOTE).write_text(domain)
    if is_out:
        (root / "data" / domain).rename(adding / "old")
    return root / "data" / domain / "class1/more.png"


@pytest.mark.parametrize(
    "command",
    [("purge", "domain0/class0/new1.png", "--yes"), ("remove", "domain1/class0/1.png"), ("export", "plain")],
)
def test_an_addition_that_was_killed_is_in_before_anything_else_is_done(small, command):
    more = killed_addition(small, "domain1", is_out=True)
    metaloom_data(*command)
    assert more.is_file() and not (small / ADDING).exists()
    assert command[0] != "export" or Path("plain/domain1/class1/more.png").is_file()


def test_an_addition_that_was_killed_before_the_old_one_was_out_does_not_come_back(small):
    more = killed_addition(small, "domain1", is_out=False)
    with data_lock(small):
        pass
    assert not more.exists() and not (small / ADDING).exists()
    shutil.rmtree(small / "data/domain1")
    with data_lock(small):
        pass
    assert not (small / "data/domain1").exists()


def test_an_addition_that_was_killed_may_be_all_there_is(small):
    more = killed_addition(small, "domain0", is_out=True)
    shutil.rmtree(small / "data/domain1")
    version_data(small)
    assert more.is_file()


def test_data_that_are_not_what_data_dvc_names_are_not_purged(small):
    oid = md5(small / PATH)
    git("checkout", "-q", "HEAD~1", "data.dvc")
    with pytest.raises(MetaloomError, match=r"^data/ holds version .{8} and data.dvc names .{8}: first `metaloom run`"):
        metaloom_data("purge", PATH, "--yes")
    shutil.rmtree("data")
    with pytest.raises(MetaloomError, match=r"^data/ is absent, and data.dvc names a version: first `metaloom run`"):
        metaloom_data("purge", oid, "--yes")
    assert not Path(PURGED).exists()


def test_data_that_change_while_it_asks_are_not_purged(small):
    found = purging.find_purge(small, PATH, listed)
    shutil.copy(PATH, "data/domain1/class1/third.png")
    before = files(small / "data")
    with pytest.raises(
        MetaloomError, match=r"^data/ has changed meanwhile: nothing was purged, give the command again$"
    ):
        purging.purge(small, found, listed)
    assert files(small / "data") == before and not Path(PURGED).exists()


def test_what_was_moved_when_a_file_cannot_be_is_put_back(small, monkeypatch):
    found, before, rename = purging.find_purge(small, PATH, listed), files(small / "data"), Path.rename

    def refused(path, target):
        if str(path).endswith(PATH) and Path(target).name == "1":
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    assert len(found.files) == 2
    with monkeypatch.context() as patch, pytest.raises((PermissionError, MetaloomError), match="Permission denied"):
        patch.setattr(Path, "rename", refused)
        purging.purge(small, found, listed)
    assert files(small / "data") == before and not Path(PURGED).exists()


def test_an_earlier_version_is_pushed_and_not_exported_without_what_was_purged(small):
    assert push_version(small, "handoff@v0.1.0") == 9  # eight files of their own, and the list of them
    metaloom_data("purge", PATH, "--yes")
    assert push_version(small, "handoff@v0.1.0") == 7
    shutil.rmtree("remote")
    os.mkdir("remote")  # a new one, that has never had any of it
    assert push_version(small, "handoff@v0.1.0") == 7
    with (
        pytest.raises(MetaloomError, match=r"2 examples that were purged since .*: export a commit after the purge"),
        listed_at(small, "v0.1.0"),
    ):
        pass


def test_a_remote_that_is_away_keeps_nothing_else_from_being_put_right(small, monkeypatch):
    oid = md5(small / PATH)
    note_purged(small, [oid])
    (fault,) = of_purged(small)
    assert fault.what.endswith(".png were purged (purged.yaml)") and fault.fix is None
    text = Path(".dvc/config").read_text()
    Path(".dvc/config").write_text("['remote \"away\"']\n    url = away\n" + text)
    os.unlink(PATH)
    os.unlink("data/domain0/class0/new0.png")
    monkeypatch.setattr(purging, "unreached", lambda repo, name: "no route" if name == "away" else "")
    faults = list(of_purged(small))
    assert len(faults) == 2 and all(each.fix and each.fix() for each in faults) and not list(of_purged(small))
    with open_project(small, lock=True) as repo, pytest.raises(BusyError, match="^remote away does not answer"):
        purging.remove_objects(repo, [oid])


def test_a_cache_that_others_may_use_is_named(small):
    shutil.move(".dvc/cache/files", "../shared/files")
    with Path(".dvc/config").open("a") as file:
        file.write(f"[cache]\n    dir = {small.parent / 'shared'}\n")
    lines = list(purging.told(purging.find_purge(small, PATH, listed)))
    assert lines[lines.index("in DVC's cache") + 1] == (
        f"DVC's cache {small.parent / 'shared/files/md5'} lies outside of this project: others that use it lose the "
        "file too"
    )


def test_versions_without_data_dvc_say_where_it_is(small):
    os.unlink("data.dvc")
    assert metaloom_data("list", "--versions").splitlines()[-1] == "data.dvc is not here: `git checkout data.dvc`"


def test_what_an_archive_holds_too_is_named_until_it_is_out_of_there(small):
    """In data/, and then in the archive that an older version has."""
    content, oid = (small / PATH).read_bytes(), md5(small / PATH)

    def write(members: dict[str, bytes]) -> None:
        with zipfile.ZipFile("pack.zip", "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    others = {f"pack/class{n}/{path.name}": path.read_bytes() for n in (0, 1) for path in png_of(small, n)}
    write({"pack/class0/mine.png": content} | others)
    metaloom_data("add", "pack.zip")
    packed = md5(Path("pack.zip"))
    for name in (PATH, oid):
        with pytest.raises(
            MetaloomError, match=r"^data/pack.zip holds it too, as (pack/)?class0/mine.png: make that archive again"
        ):
            metaloom_data("purge", name, "--yes")
    assert not Path(PURGED).exists() and (small / PATH).is_file()

    note_purged(small, [oid])  # in another clone, where the archive was not there yet
    faults = [f"{fault.what}: {fault.remedy}" for fault in of_purged(small)]
    assert any(
        "class0/mine.png in data/pack.zip was purged (purged.yaml): make that archive again" in f for f in faults
    )
    Path(PURGED).unlink()

    write(others)
    metaloom_data("add", "pack.zip", "--replace")
    said = metaloom_data("purge", PATH, "--yes")
    held = "not purged: data/pack.zip of an older version holds it too, as pack/class0/mine.png: "
    assert f"{held}`metaloom data purge {packed}`" in said
    (fault,) = of_purged(small)
    assert fault.what.startswith("pack/class0/mine.png in data/pack.zip of an older version was purged")
    assert fault.remedy == f"metaloom data purge {packed}"
    metaloom_data("purge", packed, "--yes")
    assert list(of_purged(small)) == []


def png_of(root: Path, number: int) -> list[Path]:
    """Pictures of which none shows what the one shows that is purged."""
    return sorted((root / f"data/domain0/class{number}").glob("[01].png"))


def test_only_branches_with_results_of_it_have_models_that_were_made_with_it(small):
    """The version of the model was made of it in any case."""
    made = "not purged: models and bundles of"
    assert f"{made} version v0.1.0 were made with it" in CliRunner().invoke(app, ["purge", PATH], input="n\n").output
    named = next(line for line in Path("data.dvc").read_text().split() if line.endswith(".dir"))
    Path("dvc.lock").write_text(f"stages:\n  prepare:\n    deps:\n    - path: data\n      md5: {named}\n")
    commit("a run")
    assert f"{made} version v0.1.0, main were made with it" in (
        CliRunner().invoke(app, ["purge", PATH], input="n\n").output
    )
