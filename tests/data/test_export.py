"""`metaloom data export`: data as plain folders that can be read again."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_layouts import PICTURES, PNG, touch
from test_remove import files

from metaloom.data.sources import Listing, list_sources, read_sources
from metaloom.errors import MetaloomError
from metaloom.kinds.text.kind import Text
from metaloom.kinds.vectors.kind import Vectors
from metaloom.versioning.exporting import check_target, export_data


def contents(listing: Listing) -> Counter:
    """Domain, class and bytes of every example."""
    items = listing.items
    return Counter((items[at].domain, items[at].class_name, content) for at, content in read_sources(listing))


def test_every_layout_becomes_folders_with_the_same_bytes(tmp_path):
    data = touch(tmp_path / "data", "flat/x/1.png", "flat/y/1.png", "fam/a/x/1.png", "fam/b/x/1.png")
    for number, split in enumerate(("train", "val")):
        touch(data, f"set/{split}/cat/1.png", f"set/{split}/dog/1.png")
        (data / f"set/{split}/cat/1.png").write_bytes(PNG + bytes([number]))
    touch(tmp_path / "zipped", "x/1.png", "y/1.png")
    shutil.make_archive(str(data / "packed"), "zip", tmp_path / "zipped")
    before = list_sources(data, PICTURES)
    done = export_data(before, tmp_path / "out")
    assert (done.examples, done.classes, done.domains) == (10, 8, 5) and not done.renamed and not done.unreadable
    assert contents(list_sources(tmp_path / "out", PICTURES)) == contents(before)
    assert files(tmp_path / "out") == {
        **dict.fromkeys(("flat/x/1.png", "flat/y/1.png", "fam/a/x/1.png", "fam/b/x/1.png"), PNG),
        **dict.fromkeys(("packed/x/1.png", "packed/y/1.png", "set/dog/1.png", "set/dog/1-2.png"), PNG),
        "set/cat/1.png": PNG + b"\0",
        "set/cat/1-2.png": PNG + b"\1",
    }


@pytest.mark.parametrize("kind", [Text(), Vectors()])
def test_rows_become_a_table_for_each_domain(tmp_path, kind):
    data = tmp_path / "data"
    (data / "fam").mkdir(parents=True)
    if isinstance(kind, Text):
        (data / "fam/bank.csv").write_text('text,label\n"a, ""b""",x\n=c,"y, z"\nd e,x\n', encoding="utf-8")
        (data / "more.csv").write_text("query,intent,topic\nf,x,shop\ng,y,shop\nh,y,pay\n", encoding="utf-8")
    else:
        numbers = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
        rows = "".join(f"{name},{a},{b}\n" for name, (a, b) in zip("xyx", numbers, strict=True))
        (data / "fam/bolts.csv").write_text(f"class,length,width\n{rows}")
        np.savez(data / "nuts.npz", X=numbers[:, ::-1], y=np.array(["p", "q", "p"]), columns=["width", "length"])
    before = list_sources(data, kind)
    done = export_data(before, tmp_path / "out")
    assert done.examples == len(before.items) and not done.unreadable
    assert contents(list_sources(tmp_path / "out", kind)) == contents(before)


def test_names_that_no_folder_can_have_get_another_and_that_is_said(tmp_path):
    data = touch(tmp_path / "data", "p/pics/1.png", "p/pics/2.png", "p/pics/3.png")
    (data / "p/labels.csv").write_text("path,label\npics/1.png,a/b\npics/2.png,.c\npics/3.png," + "d" * 300 + "\n")
    done = export_data(list_sources(data, PICTURES), tmp_path / "out")
    assert sorted(files(tmp_path / "out")) == ["p/_c/2.png", "p/a_b/1.png", f"p/{'d' * 215}/3.png"]
    assert done.renamed[:2] == ["'.c' → _c", "'a/b' → a_b"]
    (data / "p/labels.csv").write_text("path,label\npics/1.png,a/b\npics/2.png,a_b\npics/3.png,c\n")
    with pytest.raises(MetaloomError, match=r"^the classes p/a/b and p/a_b would both be p/a_b: rename one of them$"):
        export_data(list_sources(data, PICTURES), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_two_domains_do_not_become_one(tmp_path):
    data = touch(tmp_path / "data", "a\u200bb/x/1.png", "a_b/y/1.png")
    with pytest.raises(MetaloomError, match=r"^the domains a_b and a.b would both be a_b: rename one of them$"):
        export_data(list_sources(data, PICTURES), tmp_path / "out")


def test_a_long_name_of_a_file_keeps_its_ending(tmp_path):
    data = touch(tmp_path / "data", f"a/x/{'d' * 240}.png")
    assert export_data(list_sources(data, PICTURES), tmp_path / "out").examples == 1
    assert list(files(tmp_path / "out")) == [f"a/x/{'d' * 215}.png"]


def test_what_cannot_be_read_is_left_out_and_named(tmp_path):
    data = touch(tmp_path / "data", "a/x/1.png", "a/x/2.png")
    listing = list_sources(data, PICTURES)
    (data / "a/x/2.png").unlink()
    done = export_data(replace(listing), tmp_path / "out")
    assert done.examples == 1 and done.unreadable == ["a/x/2.png cannot be read: No such file or directory"]


def test_where_it_may_not_go(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, "data/a/x/1.png", "full/file", "empty/x"))
    Path("empty/x").unlink()
    check_target(Path("empty"), Path("data"))
    check_target(Path("new/folder"), Path("data"))
    for folder, words in {
        "full": "^full is not empty: name another folder$",
        "full/file": "^full/file is no folder: name one that is empty",
        "data/b": "^data/b and data lie in one another",
    }.items():
        with pytest.raises(MetaloomError, match=words):
            check_target(Path(folder), Path("data"))
