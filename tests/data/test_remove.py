"""`metaloom data list` and `metaloom data remove`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from dvc.cli import main as dvc
from typer.testing import CliRunner

from metaloom.cli.data import app
from metaloom.config import load_settings
from metaloom.data.sources import Listing, list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import packing_of
from metaloom.versioning import removing


@pytest.fixture
def here(project, monkeypatch) -> Path:
    monkeypatch.chdir(project)
    return project


def metaloom_data(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0
    return done.output


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_domains_and_classes_are_counted(here):
    there = {each.name: each for each in (here / "data").iterdir()}
    lines = [line.split("\t") for line in metaloom_data("list").splitlines()]
    assert [name for name, *_ in lines[:-1]] == sorted(there)
    for name, classes, examples, place in lines[:-1]:
        assert classes == f"{len(list(there[name].iterdir()))} classes"
        assert examples == f"{len(list(there[name].rglob('*.png')))} images" and place == f"data/{name}"
    assert lines[-1][0].startswith(f"{len(there)} domains, ") and "no version yet" in lines[-1][0]
    own = metaloom_data("list", "domain1").splitlines()
    assert own[0] == f"class0\t{len(list((here / 'data/domain1/class0').iterdir()))} images"
    assert json.loads(metaloom_data("list", "--json"))["domains"]["domain1"]["class0"] == len(
        list((here / "data/domain1/class0").iterdir())
    )
    with pytest.raises(MetaloomError, match="there is no domain 'greek': there are domain0, "):
        metaloom_data("list", "greek")
    with pytest.raises(MetaloomError, match=r"did you mean domain1\?$"):
        metaloom_data("list", "Domain1")


@pytest.mark.parametrize("name", ["domain1", "data/domain1/class0/0.png"])
def test_what_is_removed_comes_back_by_the_last_line(here, name):
    before = files(here / "data")
    said = metaloom_data("remove", name).splitlines()
    inside = name.removeprefix("data/")
    assert said[0] == f"removed data/{inside}" and "removed; to go back: " in said[1]
    assert files(here / "data") == {
        path: content for path, content in before.items() if not f"{path}/".startswith(f"{inside}/")
    }
    assert not (here / ".metaloom/removing").exists()
    assert "; version " in metaloom_data("list").splitlines()[-1]
    if name == "domain1":
        back = said[1].partition("to go back: ")[2]
        for command in back.split(" && "):
            program, *arguments = shlex.split(command)
            if program == "dvc":
                assert dvc(arguments) == 0
            else:
                subprocess.run([program, *arguments], check=True)
        assert files(here / "data") == before
    (here / "data/domain0/class0/0.png").unlink()
    assert "; data/ differs from version " in metaloom_data("list").splitlines()[-1]


def test_an_archive_goes_as_a_whole_and_its_layout_with_it(here):
    with zipfile.ZipFile(here / "data/fresh.zip", "w") as archive:
        for path in sorted((here / "data/domain1").rglob("*.png")):
            archive.write(path, path.relative_to(here / "data/domain1"))
    (here / "data/layouts.yaml").write_text("fresh.zip: flat\n")
    assert "fresh\t" in metaloom_data("list")
    with pytest.raises(MetaloomError, match=r"fresh/class0 lies inside data/fresh.zip: change that file itself"):
        metaloom_data("remove", "fresh/class0")
    assert metaloom_data("remove", "fresh").startswith("removed data/fresh.zip\n")
    assert not (here / "data/fresh.zip").exists() and not (here / "data/layouts.yaml").exists()


def test_bad_input_is_one_line_and_changes_nothing(here):
    for path in sorted((here / "data/domain1/class0").iterdir())[1:]:
        path.unlink()
    (here / "data/domain1/class0/.hidden").touch()
    before = files(here / "data")
    (last,) = (here / "data/domain1/class0").glob("*.png")
    cases = {
        "greek": r"there is no data/greek: data/ has domain0, .* \(`metaloom data list` shows all\)",
        "domain1/class9": "there is no data/domain1/class9",
        "../params.yaml": "give what lies in data/",
        "/etc/passwd": "give what lies in data/",
        "": "give what lies in data/",
        "a\0b": "has a NUL character",
        f"domain1/class0/{last.name}": "is all that data/domain1/class0 has: remove that as a whole",
    }
    for name, words in cases.items():
        with pytest.raises(MetaloomError, match=words) as error:
            metaloom_data("remove", name)
        assert "\n" not in str(error.value)
    assert files(here / "data") == before
    for each in sorted((here / "data").iterdir())[1:]:
        shutil.rmtree(each)
    with pytest.raises(MetaloomError, match="domain0 is all that data/ has: put other data in its place"):
        metaloom_data("remove", "domain0")


def test_where_the_rest_could_not_be_used_all_stays(here):
    before = files(here / "data")

    def refuse() -> Listing:
        if (here / "data/domain1").exists():
            return list_sources(here / "data", packing_of(load_settings()))
        raise MetaloomError("data holds no images")

    with pytest.raises(MetaloomError, match="^without data/domain1 the rest could not be used: data holds no images$"):
        removing.remove_from_data(here, "domain1", refuse)
    assert files(here / "data") == before


def test_an_archive_of_several_classes_is_no_last_example(here):
    shutil.make_archive("packed", "zip", here / "data/domain1")
    shutil.move("packed.zip", here / "data/packed.zip")
    assert "last example" not in metaloom_data("remove", "packed.zip")


def test_a_class_in_several_splits_of_data_itself(here):
    shutil.move(here / "data", here / "all")
    (here / "data/hf").mkdir(parents=True)
    for name in ("domain0", "domain1"):
        shutil.move(here / "all" / name, here / "data" / name)
    splits(here / "data/hf")
    for each in ("domain0", "domain1"):
        shutil.rmtree(here / "data" / each)
    for split in ("train", "test"):
        shutil.move(here / "data/hf" / split, here / "data" / split)
    shutil.rmtree(here / "data/hf")
    shutil.rmtree(here / "data/test/class2")
    assert metaloom_data("list", "data").startswith("class0\t")
    with pytest.raises(MetaloomError, match=r"^data/class2 lies in data/train/class2: purge that$"):
        metaloom_data("purge", "data/class2", "--yes")
    assert metaloom_data("remove", "data/class0").startswith("removed data/test/class0 and data/train/class0\n")


def test_a_class_in_several_splits_goes_as_one(here):
    """`metaloom data list` names it so; rename takes the name too."""
    splits(here / "data/hf")
    assert metaloom_data("remove", "hf/class0").startswith("removed data/hf/test/class0 and data/hf/train/class0\n")
    assert sorted(path.name for path in (here / "data/hf").glob("*/*")) == ["class1", "class1", "class2", "class2"]
    purged = r"^hf/class1 lies in data/hf/test/class1, data/hf/train/class1: purge each of them$"
    with pytest.raises(MetaloomError, match=purged):
        metaloom_data("purge", "hf/class1", "--yes")


def splits(folder: Path) -> None:
    """train/ and test/ of three classes of shapes, from the domains that are beside."""
    for split, domain in (("train", "domain0"), ("test", "domain1")):
        for name in ("class0", "class1", "class2"):
            shutil.move(folder.parent / domain / name, folder / split / name)


def test_that_a_class_of_a_table_is_gone_is_said(here):
    """No folder is left empty, so it is not refused."""
    for number in range(3):
        (here / f"data/domain1/class0/{number}.png").rename(here / f"data/domain1/{number}.png")
    shutil.rmtree(here / "data/domain1/class0")
    (here / "data/domain1/labels.csv").write_text("path,label\n0.png,a\n1.png,a\n2.png,b\n")
    assert "last example" not in metaloom_data("remove", "domain1/0.png")
    (here / "data/domain1/labels.csv").write_text("path,label\n1.png,a\n2.png,b\n")
    metaloom_data("list")
    with pytest.raises(
        MetaloomError, match=r"`metaloom data remove domain1/1.png` takes the class out, then `metaloom da"
    ):
        metaloom_data("purge", "domain1/1.png", "--yes")
    said = metaloom_data("remove", "domain1/1.png").splitlines()
    assert said[:2] == ["removed data/domain1/1.png", "that was the last example of domain1/a: the class is gone"]


def test_killed_midway_it_is_out_or_in_and_can_be_had_back(here, monkeypatch):
    before = files(here / "data")
    versioned = removing.version_data
    calls = []

    def killed_at_the_second(root):
        calls.append(root)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return versioned(root)

    monkeypatch.setattr(removing, "version_data", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        removing.remove_from_data(here, "domain1", lambda: list_sources(here / "data", packing_of(load_settings())))
    assert files(here / "data") == {path: it for path, it in before.items() if not path.startswith("domain1/")}
    assert dvc(["checkout", "--force", "data.dvc"]) == 0
    assert files(here / "data") == before
    assert "removed data/domain2" in metaloom_data("remove", "domain2")
    assert not (here / ".metaloom/removing").exists()
