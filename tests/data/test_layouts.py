"""How a user's own folders are read: which layout is seen, what is a domain, a class and a split."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from metaloom.data.given import LAYOUTS
from metaloom.data.layouts import layout_lines
from metaloom.data.sources import Listing, list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.kind import Pictures

PICTURES = Pictures(28, 1)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(30)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    return root


def read(root: Path, **given: str) -> Listing:
    return list_sources(root, PICTURES, given=given or None)


def classes(listing: Listing) -> dict[str, str]:
    """The class of each file by the last names of its path."""
    return {"/".join(item.source.replace("!", "/").split("/")[-3:]): item.class_name for item in listing.items}


def splits(listing: Listing) -> dict[str, str]:
    return {item.class_name: item.split for item in listing.items}


def layouts(listing: Listing) -> list[str]:
    return [branch.layout for branch in listing.branches]


FLAT = ("cat/1.png", "dog/1.png")
SAME = ("train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png", "Test/cat/3.png")
OTHER = ("train/a/1.png", "train/b/1.png", "train/f/1.png", "valid/c/1.png", "test/d/1.png", "test/e/1.png")


def test_domains_flat_and_splits_side_by_side(tmp_path):
    touch(tmp_path, *(f"mine/{name}" for name in FLAT), *(f"set/{name}" for name in SAME))
    touch(tmp_path, "shop/line1/x/1.png", "shop/line2/x/1.png")
    listing = read(tmp_path)
    assert layouts(listing) == ["domains", "splits", "domains"]
    assert layout_lines(listing.branches, given=False) == [
        "layout found: domains, domain/class/file (mine, shop)",
        "layout found: splits, train/class/file beside validation/ or test/ (set)",
    ]
    assert {item.class_name for item in listing.items} == {
        *("mine/cat", "mine/dog", "set/cat", "set/dog", "shop/line1/x", "shop/line2/x"),
    }
    assert {item.domain for item in listing.items} == {"mine", "set", "shop/line1", "shop/line2"}


def test_class_folders_dropped_into_data_by_hand(tmp_path):
    listing = read(touch(tmp_path / "data", *FLAT))
    assert layouts(listing) == ["flat"]
    assert {(item.domain, item.class_name) for item in listing.items} == {("data", "data/cat"), ("data", "data/dog")}


def test_the_same_classes_in_every_split_are_put_together(tmp_path):
    listing = read(touch(tmp_path / "data", *SAME))
    assert layouts(listing) == ["splits"] and set(splits(listing)) == {"data/cat", "data/dog"}
    assert set(splits(listing).values()) == {""}
    assert "has the same classes in its folders" in listing.notes[0] and "put together" in listing.notes[0]


def test_other_classes_in_every_split_stay_the_split(tmp_path):
    listing = read(touch(tmp_path / "data", *(f"mini/{name}" for name in OTHER)))
    own = {"a": "train", "b": "train", "f": "train", "c": "validation", "d": "test", "e": "test"}
    assert splits(listing) == {f"mini/{name}": split for name, split in own.items()}
    assert "they stay the splits" in listing.notes[0]


def test_a_class_in_two_splits_of_other_classes_is_for_training(tmp_path):
    more = ("valid/g/1.png", "valid/h/1.png", "test/a/9.png")
    listing = read(touch(tmp_path / "data", *(f"mini/{name}" for name in (*OTHER, *more))))
    assert splits(listing)["mini/a"] == "train" and splits(listing)["mini/d"] == "test"
    assert any(note.startswith("mini/a: in several of these folders") for note in listing.notes)


def test_splits_beside_other_data(tmp_path):
    listing = read(touch(tmp_path / "data", *SAME, "greek/a/1.png", "lao/b/1.png"))
    assert set(layouts(listing)) == {"splits", "domains"}
    assert set(splits(listing)) == {"data/cat", "data/dog", "greek/a", "lao/b"}


def test_without_a_folder_for_validation_it_is_drawn_from_training(tmp_path):
    listing = read(touch(tmp_path / "data", *(name for name in OTHER if "valid" not in name)))
    assert splits(listing) == {**{f"data/{c}": "" for c in "abf"}, **{f"data/{c}": "test" for c in "de"}}


def test_domains_within_splits(tmp_path):
    listing = read(touch(tmp_path / "data", "train/greek/a/1.png", "val/thai/b/1.png", "test/lao/c/1.png"))
    assert splits(listing) == {"greek/a": "train", "thai/b": "validation", "lao/c": "test"}


def test_classes_called_like_splits_are_classes_beside_others(tmp_path):
    listing = read(touch(tmp_path / "data", "vehicles/train/1.png", "vehicles/bus/1.png"))
    assert layouts(listing) == ["flat"] and set(splits(listing)) == {"vehicles/train", "vehicles/bus"}


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.parametrize("wrapper", ["", "set/"])
def test_archives_of_each(tmp_path, ending, wrapper):
    touch(tmp_path / "loose", *SAME)
    (tmp_path / "data").mkdir()
    path = tmp_path / f"data/set{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((tmp_path / "loose").rglob("*.png")):
                archive.write(file, wrapper + str(file.relative_to(tmp_path / "loose")))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / "loose", wrapper.strip("/") or ".")
    listing = read(tmp_path / "data")
    assert layouts(listing) == ["splits"] and set(splits(listing)) == {"set/cat", "set/dog"}


def test_an_archive_for_each_split(tmp_path):
    for split, letters in {"train": "abc", "val": "d", "test": "e"}.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / f"data/{split}.zip", "w") as archive:
            for letter in letters:
                archive.writestr(f"{letter}/1.png", PNG)
    assert splits(read(tmp_path / "data")) == {
        **{f"data/{each}": "train" for each in "abc"},
        **{"data/d": "validation", "data/e": "test"},
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "path,label,domain\na.png,cat,pets\nsub/b.png,dog,pets\n./c.png,oak,trees\n"),
        ("metadata.csv", "file_name,class,domain,width\na.png,cat,pets,3\nsub\\b.png,dog,pets,4\nc.png,oak,trees,5\n"),
        (
            "metadata.jsonl",
            "".join(
                json.dumps({"file_name": file, "label": label, "domain": domain}) + "\n"
                for file, label, domain in (
                    ("a.png", "cat", "pets"),
                    ("sub/b.png", "dog", "pets"),
                    ("c.png", "oak", "trees"),
                )
            ),
        ),
    ],
)
def test_a_table_of_labels(tmp_path, name, text):
    touch(tmp_path / "data/mine", "a.png", "sub/b.png", "c.png", "extra.png")
    (tmp_path / "data/mine" / name).write_text(text)
    listing = read(tmp_path / "data")
    found = {(item.domain, item.class_name) for item in listing.items}
    assert found == {("mine/pets", "mine/pets/cat"), ("mine/pets", "mine/pets/dog"), ("mine/trees", "mine/trees/oak")}
    assert listing.ignored == ["mine/extra.png"] and "mine/extra.png: in no row" in listing.notes[0]


def test_a_hugging_face_folder_with_a_table_in_each_split(tmp_path):
    for split, number in (("train", 1), ("test", 2)):
        touch(tmp_path / "data/hf" / split, f"{number}a.png", f"{number}b.png")
        rows = f"file_name,label\n{number}a.png,0\n{number}b.png,1\n"
        (tmp_path / "data/hf" / split / "metadata.csv").write_text(rows)
    listing = read(tmp_path / "data")
    assert layouts(listing) == ["splits"] and set(splits(listing)) == {"hf/0", "hf/1"}


def test_a_table_of_captions_leaves_the_folders_their_say(tmp_path):
    touch(tmp_path / "data/mine", *FLAT)
    (tmp_path / "data/mine/metadata.csv").write_text("file_name,text\ncat/1.png,a cat\n")
    listing = read(tmp_path / "data")
    assert layouts(listing) == ["flat"] and listing.ignored == ["mine/metadata.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,cat\na.png,dog\n", "labels.csv has a.png in two classes, cat and dog"),
        ("path,label\na.png,\n", "labels.csv, row 1, lacks its label: fill it in"),
        ("path,label\nb.png,cat\n", "names mine/b.png and others, and none of them is there: .*mine/a.png lies"),
        ("path,label\n\xe9,cat\n", "labels.csv is no readable table"),
    ],
)
def test_a_table_that_cannot_be(tmp_path, text, message):
    touch(tmp_path / "data/mine", "a.png")
    (tmp_path / "data/mine/labels.csv").write_text(text, encoding="latin-1")
    with pytest.raises(MetaloomError, match=message):
        read(tmp_path / "data")


@pytest.mark.parametrize("header", ["Label;Filename;domain", " file name ;CLASS;Domain"])
def test_columns_by_other_names_and_separators(tmp_path, header):
    touch(tmp_path / "data/mine", "a.png", "b.png")
    rows = (
        [("x", "a.png", "p"), ("y", "b.png", "p")] if header[0] == "L" else [("a.png", "x", "p"), ("b.png", "y", "p")]
    )
    text = "\n".join([header, *map(";".join, rows)])
    (tmp_path / "data/mine/labels.csv").write_text(text)
    assert {item.class_name for item in read(tmp_path / "data").items} == {"mine/p/x", "mine/p/y"}


@pytest.mark.parametrize("header", ["Image,Class", "file,label", "filename,class"])
def test_a_table_of_something_else_leaves_the_folders_their_say(tmp_path, header):
    """These names are those of many tables: of one that names no file beside it, nothing is taken."""
    touch(tmp_path / "data/mine", *FLAT)
    (tmp_path / "data/mine/metadata.csv").write_text(f"{header}\nIMG_1.png,cat\ncat/1.png,dog\n,\n")
    listing = read(tmp_path / "data")
    assert layouts(listing) == ["flat"] and listing.ignored == ["mine/metadata.csv"]


def test_the_domain_of_a_later_line(tmp_path):
    touch(tmp_path / "data/mine", "a.png", "b.png")
    lines = [{"file_name": "a.png", "label": "x"}, {"file_name": "b.png", "label": "y", "domain": "p"}]
    (tmp_path / "data/mine/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert {item.class_name for item in read(tmp_path / "data").items} == {"mine/x", "mine/p/y"}


def test_two_tables_of_which_one_has_no_domains_agree(tmp_path):
    touch(tmp_path / "data/mine", "a.png", "b.png")
    (tmp_path / "data/mine/labels.csv").write_text("path,label\na.png,x\nb.png,y\n")
    (tmp_path / "data/mine/metadata.csv").write_text("path,label,domain\na.png,x,p\nb.png,y,p\n")
    assert {item.class_name for item in read(tmp_path / "data").items} == {"mine/p/x", "mine/p/y"}


def test_two_tables_that_disagree(tmp_path):
    touch(tmp_path / "data/mine", "a.png")
    for name, label in (("labels.csv", "x"), ("metadata.csv", "y")):
        (tmp_path / "data/mine" / name).write_text(f"path,label\na.png,{label}\n")
    message = r"metadata.csv has mine/a.png in y, and another table in x: remove one of the two tables"
    with pytest.raises(MetaloomError, match=message):
        read(tmp_path / "data")


def test_a_table_of_another_name_is_pointed_at(tmp_path):
    touch(tmp_path / "data/mine", "a.png", "b.png")
    (tmp_path / "data/mine/index.csv").write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.raises(
        MetaloomError, match=r"if a table says what they are, such as mine/index.csv, call it metadata.csv"
    ):
        read(tmp_path / "data")


def test_the_line_that_is_no_object_is_named(tmp_path):
    touch(tmp_path / "data/mine", "a.png")
    (tmp_path / "data/mine/metadata.jsonl").write_text('{"file_name": "a.png", "label": 0}\n\n{"file_name": oops}\n')
    with pytest.raises(MetaloomError, match=r"metadata.jsonl is no readable table \(line 3 is no JSON object\)"):
        read(tmp_path / "data")


def test_what_a_table_names_and_is_not_there_is_said(tmp_path):
    touch(tmp_path / "data/mine", "a.png")
    (tmp_path / "data/mine/labels.csv").write_text("path,label\na.png,x\ngone.png,x\n")
    assert read(tmp_path / "data").notes == ["mine/labels.csv names mine/gone.png, which is not there"]


def test_a_layout_can_be_given(tmp_path):
    data = touch(tmp_path / "data", *(f"set/{name}" for name in SAME))
    assert {item.domain for item in read(data, set="domains").items} == {"set/train", "set/val", "set/Test"}
    assert {item.class_name for item in read(data, set="flat").items} == {"set/train", "set/val", "set/Test"}
    (data / "layouts.yaml").write_text("set: domains\n")
    assert {item.domain for item in list_sources(data, PICTURES).items} == {"set/train", "set/val", "set/Test"}
    assert list_sources(data, PICTURES).ignored == []
    (data / "layouts.yaml").write_text("sett: flat\n")
    assert "layouts.yaml names sett, which holds no examples here" in list_sources(data, PICTURES).notes


def test_a_layout_that_does_not_fit_is_refused(tmp_path):
    data = touch(tmp_path / "data", *(f"mine/{name}" for name in FLAT))
    with pytest.raises(MetaloomError, match="layout splits: mine/ is not made of folders train/.*cat/  1 file"):
        read(data, mine="splits")
    with pytest.raises(MetaloomError, match=r"layout table: mine/ has no table with the columns path \(or file_name\)"):
        read(data, mine="table")
    (data / "mine/labels.csv").write_text("file;label\n")
    (data / "layouts.yaml").write_text("mine: tabel\n")
    with pytest.raises(MetaloomError, match="layouts.yaml: mine: there is no layout 'tabel'; there are domains"):
        list_sources(data, PICTURES)
    (data / "layouts.yaml").write_text("- mine\n")
    with pytest.raises(MetaloomError, match="write one line for each folder or archive"):
        list_sources(data, PICTURES)


def test_the_tree_is_short(tmp_path):
    (part,) = read(touch(tmp_path / "data", *(f"mine/{number:02d}/1.png" for number in range(9)))).branches
    assert part.tree() == ["mine/", *(f"  {n:02d}/  1 file" for n in range(5)), "  and 4 more"]
    (part,) = read(touch(tmp_path / "other", *SAME)).branches
    assert part.tree()[2] == "  train/  2 files in 2 folders"
    assert set(LAYOUTS) == {"domains", "flat", "splits", "table"}


def test_content_makes_a_picture_not_its_name(tmp_path):
    data = touch(tmp_path / "data", "a/x/1.PNG", "a/x/photo", "a/x/download.tmp")
    (data / "a/x/notes").write_text("hello")
    with zipfile.ZipFile(data / "b.zip", "w") as archive:
        archive.writestr("y/1", PNG)
        archive.writestr("y/LICENSE", "hello")
    with tarfile.open(data / "c.tar", "w") as archive:
        archive.add(data / "a/x/photo", "z/photo")
        archive.add(data / "a/x/notes", "z/notes")
    listing = read(data)
    names = {item.source for item in listing.items}
    assert names == {"a/x/1.PNG", "a/x/photo", "a/x/download.tmp", "b.zip!y/1", "c.tar!z/photo"}
    assert listing.ignored == ["a/x/notes", "b.zip!y/LICENSE", "c.tar!z/notes"]
