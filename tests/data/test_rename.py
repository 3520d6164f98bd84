"""`metaloom data rename` and `metaloom data merge`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from dvc.cli import main as dvc
from projects import REPO
from small_project import commit
from test_layouts import PICTURES, PNG, touch
from test_remove import files, metaloom_data

from metaloom.cli.changing import _say_done
from metaloom.config import load_settings
from metaloom.data.add import NOTE
from metaloom.data.sources import list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind
from metaloom.kinds.text.kind import Text
from metaloom.tasks.kept import read_kept
from metaloom.versioning import renaming
from metaloom.versioning.data import ADDING, DataVersion
from metaloom.versioning.removing import remove_from_data

TEXTS = Text(features=100, length=100, text=None, label=None)
DRAWN = {"seed": 0, "by": "auto", "train": "rest", "validation": 0.15, "test": 0.25}


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A folder with data/ alone, of which nobody makes versions."""
    monkeypatch.setattr(renaming, "version_data", lambda root: DataVersion("", True, "versioned"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".metaloom").mkdir()
    return tmp_path


def listed(kind: Kind = PICTURES):
    return list_sources(Path("data"), kind)


def classes(kind: Kind = PICTURES) -> dict[str, int]:
    return dict(Counter(item.class_name for item in listed(kind).items))


def domains() -> set[str]:
    return {item.domain for item in listed().items}


def split_table(by: str, **splits: list[str]) -> None:
    empty = {"train": [], "validation": [], "test": []}
    Path("splits.yaml").write_text(yaml.safe_dump({"by": by, "drawn_with": DRAWN} | empty | splits))


CASES = {  # files, old name, new name, class names afterwards
    "a domain": (["a/x/1.png", "b/y/1.png"], "a", "c", {"c/x", "b/y"}),
    "a class": (["a/x/1.png", "b/y/1.png"], "data/a/x", "z", {"a/z", "b/y"}),
    "a class by its whole name": (["a/x/1.png", "b/y/1.png"], "a/x/", "a/z", {"a/z", "b/y"}),
    "a family": (["f/a/x/1.png", "f/b/x/1.png", "g/x/1.png"], "f", "h", {"h/a/x", "h/b/x", "g/x"}),
    "in a family": (["f/a/x/1.png", "f/b/x/1.png"], "f/a", "c", {"f/c/x", "f/b/x"}),
    "flat": (["p/x/1.png", "p/y/1.png"], "p", "q", {"q/x", "q/y"}),
    "data/ is the domain": (["x/1.png", "y/1.png"], "data/x", "z", {"data/z", "data/y"}),
    "splits": (
        ["train/x/1.png", "train/y/1.png", "val/x/2.png", "val/y/2.png"],
        "data/x",
        "z",
        {"data/z", "data/y"},
    ),
    "splits of domains": (
        ["train/d/x/1.png", "test/d/x/2.png", "train/d/y/1.png", "test/e/y/1.png"],
        "d",
        "c",
        {"c/x", "c/y", "e/y"},
    ),
    "odd names": (["ά/é 1/1.png", "b/y/1.png"], "ά/é 1", "ü %", {"ά/ü %", "b/y"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_name_is_another_in_every_layout_of_folders(bare, case):
    names, old, new, wanted = CASES[case]
    touch(bare / "data", *names)
    before = len(listed().items)
    done = renaming.rename_in_data(bare, old, new, listed)
    assert set(classes()) == wanted and len(listed().items) == before
    assert done.new in wanted | domains() | {"h"} and not listed().empty


def test_an_archive_and_a_table_are_renamed_where_they_name_the_domain(bare):
    (bare / "data").mkdir()
    (bare / "data/wishes.csv").write_text("text,label\nhow are you,x\ngood day,y\n")
    (bare / "data/more.csv").write_text("text,label,domain\nhow is it,x,shop\ngood night,y,shop\n")
    renaming.rename_in_data(bare, "wishes", "asks", lambda: listed(TEXTS))
    assert (bare / "data/asks.csv").is_file() and set(classes(TEXTS)) == {"asks/x", "asks/y", "shop/x", "shop/y"}
    for old, file in {"asks/x": "data/asks.csv", "shop": "data/more.csv"}.items():
        with pytest.raises(MetaloomError, match=f"^{old} lies inside {file}: change that file itself, and add it"):
            renaming.rename_in_data(bare, old, "z", lambda: listed(TEXTS))
    with pytest.raises(MetaloomError, match=r"lies inside data/more.csv"):
        renaming.merge_in_data(bare, "shop", "asks", lambda: listed(TEXTS))


def test_a_zip_of_classes_is_a_domain_that_can_be_renamed_and_not_merged(bare):
    touch(bare / "data", "b/x/1.png")
    touch(bare / "z", "x/1.png", "y/1.png")
    shutil.make_archive("data/a", "zip", "z")
    renaming.rename_in_data(bare, "a", "c", listed)
    assert (bare / "data/c.zip").is_file() and set(classes()) == {"b/x", "c/x", "c/y"}
    with pytest.raises(MetaloomError, match=r"^data/c.zip is one file, and merging puts folders together: "):
        renaming.merge_in_data(bare, "c", "b", listed)


def test_what_a_table_names_is_changed_there(bare):
    touch(bare / "data", "p/pics/1.png", "p/pics/2.png", "q/x/1.png")
    (bare / "data/p/labels.csv").write_text("path,label\npics/1.png,x\npics/2.png,y\n")
    with pytest.raises(MetaloomError, match=r"^p/x is no folder of its own .*a table names it \(p/labels.csv\)"):
        renaming.rename_in_data(bare, "p/x", "z", listed)
    for name in ("p/x", "data/p/x/"):
        with pytest.raises(MetaloomError, match=r"^p/x is no folder of its own .*a table names it \(p/labels.csv\)"):
            remove_from_data(bare, name, listed)
    with pytest.raises(MetaloomError, match=r"^there is no data/p/z: "):
        remove_from_data(bare, "p/z", listed)
    renaming.rename_in_data(bare, "p", "r", listed)
    assert set(classes()) == {"r/x", "r/y", "q/x"}


def test_a_given_layout_goes_along(bare):
    touch(bare / "data", "p/x/1.png", "p/y/1.png", "q/z/x/1.png")
    (bare / "data/layouts.yaml").write_text("p: flat\nq: domains\n")
    renaming.rename_in_data(bare, "p", "r", listed)
    assert yaml.safe_load((bare / "data/layouts.yaml").read_text()) == {"r": "flat", "q": "domains"}
    renaming.merge_in_data(bare, "r", "q/z", listed)
    assert classes() == {"q/z/x": 1, "q/z/y": 1}
    assert yaml.safe_load((bare / "data/layouts.yaml").read_text()) == {"q": "domains"}


def test_merging_keeps_every_file_and_takes_what_both_have_once(bare):
    touch(bare / "data", "a/x/1.png", "a/x/2.png", "b/x/1.png", "b/x/3.png", "b/w/1.png", "c/x/1.png")
    (bare / "data/a/x/1.png").write_bytes(PNG + b"another")
    (bare / "data/b/x/2.png").write_bytes(PNG)
    (bare / "data/a/x/1-a.png").write_bytes(PNG + b"a third")
    done = renaming.merge_in_data(bare, "a", "b", listed)
    assert classes() == {"b/x": 5, "b/w": 1, "c/x": 1} and not (bare / "data/a").exists()
    assert {path.name: path.read_bytes() for path in (bare / "data/b/x").iterdir()} == {
        "1.png": PNG,
        "2.png": PNG,
        "3.png": PNG,
        "1-a.png": PNG + b"a third",
        "1-a-2.png": PNG + b"another",
    }
    assert done.notes == [
        "1 of the files were in b already, with the same name and content",
        "both had a class x: each is one class now",
    ]


def test_a_class_can_go_into_one_of_another_domain_and_its_empty_domain_goes(bare):
    touch(bare / "data", "a/x/1.png", "b/y/2.png")
    renaming.merge_in_data(bare, "a/x", "b/y", listed)
    assert classes() == {"b/y": 2}
    assert not (bare / "data/a").exists()


def test_twins_are_put_together_split_by_split(bare):
    touch(bare / "data", "train/Cat/1.png", "train/cat/1.png", "val/Cat/2.png", "val/dog/3.png", "train/dog/1.png")
    (bare / "data/train/Cat/1.png").write_bytes(PNG + b"1")
    renaming.merge_in_data(bare, "data/Cat", "data/cat", listed)
    assert files(bare / "data").keys() == {
        "train/cat/1.png",
        "train/cat/1-Cat.png",
        "val/cat/2.png",
        "val/dog/3.png",
        "train/dog/1.png",
    }


@pytest.mark.parametrize(
    ("by", "before", "old", "new", "after"),
    [
        ("domain", {"train": ["b"], "test": ["a", "gone"]}, "a", "c", {"b": "train", "c": "test", "gone": "test"}),
        ("class", {"train": ["a/x"], "test": ["a/y", "b/y"]}, "a", "c", {"c/x": "train", "c/y": "test", "b/y": "test"}),
        ("class", {"train": ["a/x"], "test": ["a/y"]}, "a/x", "z", {"a/z": "train", "a/y": "test"}),
        ("domain", {"train": ["a"], "test": ["b"]}, "a/x", "z", {"a": "train", "b": "test"}),
    ],
)
def test_the_split_table_has_the_new_name_in_the_old_ones_split(bare, by, before, old, new, after):
    touch(bare / "data", "a/x/1.png", "a/y/1.png", "b/y/1.png")
    split_table(by, **before)
    done = renaming.rename_in_data(bare, old, new, listed)
    kept = read_kept(Path("splits.yaml"))
    assert kept and kept.split_of == after and kept.drawn_with == DRAWN
    assert done.splits == (after != {name: split for split, names in before.items() for name in names})


def test_what_is_merged_goes_to_the_split_of_the_other_and_that_is_said(bare):
    touch(bare / "data", "a/x/1.png", "b/y/1.png", "c/y/1.png")
    split_table("domain", train=["b"], test=["a", "c"])
    done = renaming.merge_in_data(bare, "a", "b", listed)
    assert done.notes == ["a was in test, and goes to train with b: splits.yaml decides"]
    kept = read_kept(Path("splits.yaml"))
    assert kept and kept.split_of == {"b": "train", "c": "test"}


REFUSED = {
    ("rename", "nope", "c"): r"there is no domain or class 'nope': there are the domains a, b \(`metaloom data list`",
    ("rename", "", "c"): "there is no domain or class ''",
    ("rename", "a", "b"): "b is there already: `metaloom data merge a b` puts both together",
    ("rename", "a/x", "y"): "a/y is there already: `metaloom data merge a/x a/y`",
    ("rename", "a", "a"): "a has that name",
    ("rename", "a", ""): "'': give one name, without slashes",
    ("rename", "a", "."): "'.': give one name",
    ("rename", "a", ".hidden"): "without a dot at the front",
    ("rename", "a", "c\0d"): "has a NUL character",
    ("rename", "a", "c\udce9"): "is no valid UTF-8",
    ("rename", "a", "c" * 256): "has 256 bytes, and a name has at most 255",
    ("rename", "a", "c.zip"): "'c.zip' ends like the name of an archive",
    ("rename", "a/x", "b/z"): "b/z: a new name is for x alone, what is in front of it stays: give 'z'",
    ("rename", "a", "junk"): "data/junk is there already: remove it, or give another name",
    ("merge", "a", "a"): "a and a are one: give two",
    ("merge", "a", "b/z"): "b/z is a class and a a domain: give two classes, or two domains",
    ("merge", "a", "a/x"): "a and a/x lie in one another",
    ("merge", "nope", "a"): "there is no domain or class 'nope'",
}


@pytest.mark.parametrize("call", REFUSED)
def test_bad_input_is_one_line_and_changes_nothing(bare, call):
    touch(bare / "data", "a/x/1.png", "a/y/1.png", "b/z/1.png")
    (bare / "data/junk").write_text("")
    split_table("domain", train=["a"], test=["b"])
    before = files(bare)
    what, old, new = call
    with pytest.raises(MetaloomError, match=REFUSED[call]) as error:
        getattr(renaming, f"{what}_in_data")(bare, old, new, listed)
    assert "\n" not in str(error.value)
    assert {path: it for path, it in files(bare).items() if "/" in path and path[0] != "."} == {
        path: it for path, it in before.items() if "/" in path
    }
    assert (bare / "splits.yaml").read_bytes() == before["splits.yaml"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MetaloomError("data holds no images"), None])
def test_where_it_goes_wrong_all_is_as_it_was(bare, error):
    touch(bare / "data", "a/x/1.png", "a/y/1.png", "b/x/1.png", "c/z/1.png")
    (bare / "data/layouts.yaml").write_text("a: domains\n")
    split_table("domain", train=["a"], test=["b"])
    before = files(bare)
    calls = []

    def wrong():
        calls.append(listed())
        if len(calls) == 1:
            return calls[0]
        if error is not None:
            raise error
        shutil.rmtree(bare / "data/c")  # somebody else, meanwhile
        return listed()

    with pytest.raises(type(error) if error else MetaloomError):
        renaming.merge_in_data(bare, "a", "b", wrong)
    after = files(bare)
    assert {path for path in before if not path.startswith((".", "data/c"))} == {
        path for path in after if not path.startswith((".", "data/c"))
    }
    assert after["splits.yaml"] == before["splits.yaml"]
    assert after["data/layouts.yaml"] == before["data/layouts.yaml"]


def test_killed_between_two_files_the_same_command_ends_it(bare, monkeypatch):
    touch(bare / "data", "a/x/1.png", "a/x/2.png", "b/x/1.png", "b/x/3.png")
    (bare / "data/a/x/1.png").write_bytes(PNG + b"1")
    split_table("domain", train=["b"], test=["a"])

    class Killed(BaseException):
        pass

    rename, calls = Path.rename, []

    def killed(self, target):
        calls.append(self)
        if len(calls) > 1:  # the first file has gone over; what follows, undoing among it, never happens
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(Killed):
        renaming.merge_in_data(bare, "a", "b", listed)
    monkeypatch.undo()
    monkeypatch.chdir(bare)
    monkeypatch.setattr(renaming, "version_data", lambda root: DataVersion("", True, ""))
    assert sum(classes().values()) == 4 and set(classes()) == {"a/x", "b/x"}
    renaming.merge_in_data(bare, "a", "b", listed)
    assert classes() == {"b/x": 4} and not (bare / "data/a").exists()


def test_renamed_data_are_a_version_and_the_last_lines_say_the_way_back(small):
    split_table("domain", train=["domain0"], test=["domain1"])
    commit("splits")
    before = files(small / "data")
    said = metaloom_data("rename", "domain1", "shapes").splitlines()
    assert said[0] == "renamed domain1 to shapes" and "; to go back: " in said[1]
    assert said[2] == (
        "splits.yaml has shapes in the place of domain1: commit it with data.dvc; to go back, "
        "`git checkout splits.yaml` too"
    )
    assert json.loads(metaloom_data("list", "--json"))["domains"].keys() == {
        path.split("/")[0].replace("domain1", "shapes") for path in before
    }
    assert yaml.safe_load((small / "data.dvc").read_text())["outs"][0]["nfiles"] == len(before)
    for command in said[1].partition("to go back: ")[2].split(" && "):
        program, *arguments = shlex.split(command)
        if program == "dvc":
            assert dvc(arguments) == 0
        else:
            subprocess.run([program, *arguments], check=True)
    assert files(small / "data") == before


@pytest.mark.parametrize("do", [renaming.rename_in_data, renaming.merge_in_data])
def test_an_addition_that_was_killed_is_in_first(bare, do):
    touch(bare / "data", "b/y/1.png", "c/y/1.png")
    touch(bare / ADDING, "old/x/1.png", "new/x/1.png", "new/x/2.png")
    (bare / ADDING / NOTE).write_text("a")
    do(bare, "a", "d" if do is renaming.rename_in_data else "b", listed)
    assert sum(name.endswith("/x") and count for name, count in classes().items()) == 2
    assert not (bare / ADDING).exists()


def test_params_that_name_it_or_a_class_of_it_are_told(bare, capsys):
    settings = load_settings(REPO / "params.yaml", {"split.test": ["old", "old/x", "older", "!old/y"]})
    version = DataVersion("", True, "versioned")
    _say_done(renaming.Renamed("old", "new", version, splits=False), settings)
    assert [line for line in "".join(capsys.readouterr()).splitlines() if "params" in line] == [
        f"params.yaml: split.test names old{end}: write new{end} there" for end in ("", "/x", "/y")
    ]
