from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from metaloom.data.add import list_elsewhere
from metaloom.data.sources import list_sources, read_sources
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.vectors.kind import Vectors

PICTURES = Pictures(28, 1)
VECTORS = Vectors()


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def archive(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, name)


def classes(root: Path) -> set[tuple[str, str]]:
    return {(item.domain, item.class_name) for item in list_sources(root, PICTURES).items}


def test_folders_name_domain_and_class(tmp_path):
    touch(tmp_path, "greek/alpha/1.png", "sets/latin/a/1.JPG")
    assert classes(tmp_path) == {("greek", "greek/alpha"), ("sets/latin", "sets/latin/a")}


def test_archives_stand_where_folders_may(tmp_path):
    archive(tmp_path / "omniglot.zip", "images/Greek/character01/1.png")
    archive(tmp_path / "armenian.zip", "ayb/1.png")
    archive(tmp_path / "sets/lao.zip", "ko/1.png")
    archive(tmp_path / "hebrew/alef.zip", "1.png")
    assert classes(tmp_path) == {
        ("images/Greek", "images/Greek/character01"),
        ("armenian", "armenian/ayb"),
        ("sets/lao", "sets/lao/ko"),
        ("hebrew", "hebrew/alef"),
    }


def test_items_are_sorted_and_read_with_their_sources(tmp_path):
    touch(tmp_path, "b/x/2.png", "b/x/1.png", "a/y/1.bmp")
    archive(tmp_path / "b.zip", "x/3.png")
    listing = list_sources(tmp_path, PICTURES)
    sources = [item.source for item in listing.items]
    assert sources == ["a/y/1.bmp", "b.zip!x/3.png", "b/x/1.png", "b/x/2.png"]
    contents = dict(read_sources(listing))
    assert {sources[i]: content for i, content in contents.items()} == {
        source: source.split("!")[-1].encode() for source in sources
    }


def test_other_files_are_ignored_and_listed(tmp_path):
    touch(tmp_path, "README.md", "a/x/1.png", "a/x/Thumbs.db", "a/.DS_Store", ".cache/a/1.png", "a/x/notes.rar")
    archive(tmp_path / "b.zip", "c/1.png", "__MACOSX/c/._1.png", "c/.hidden.png", "LICENSE")
    listing = list_sources(tmp_path, PICTURES)
    assert [item.source for item in listing.items] == ["a/x/1.png", "b.zip!c/1.png"]
    assert listing.ignored == sorted(
        [
            ".cache",
            "README.md",
            "a/.DS_Store",
            "a/x/Thumbs.db",
            "a/x/notes.rar",
            "b.zip!LICENSE",
            "b.zip!__MACOSX/c/._1.png",
            "b.zip!c/.hidden.png",
        ]
    )


def test_empty_classes_are_listed(tmp_path):
    touch(tmp_path, "a/x/1.png", "a/z/readme.txt")
    (tmp_path / "a/y").mkdir()
    archive(tmp_path / "b.zip", "c/1.png", "c/", "d/")
    assert list_sources(tmp_path, PICTURES).empty == ["a/y", "a/z", "b.zip!d"]


@pytest.mark.parametrize("name", ["1.png", "class/1.png"])
def test_an_image_outside_domain_and_class_is_refused(tmp_path, name):
    touch(tmp_path, name, "a/x/1.png")
    with pytest.raises(MetaloomError, match=f"{name}: each of these belongs in a class folder.*domain/class/image"):
        list_sources(tmp_path, PICTURES)


def test_nothing_to_find(tmp_path):
    with pytest.raises(MetaloomError, match="not found"):
        list_sources(tmp_path / "data", PICTURES)
    with pytest.raises(MetaloomError, match="holds no images: put domain/class/"):
        list_sources(tmp_path, PICTURES)
    touch(tmp_path, "a/b/c.svg")
    with pytest.raises(MetaloomError, match=r"only a/b/c\.svg"):
        list_sources(tmp_path, PICTURES)


def test_files_of_another_kind_name_its_setting(tmp_path):
    touch(tmp_path, "machines/one.csv")
    with pytest.raises(MetaloomError, match="holds no images .*, or set `kind: vectors` in params.yaml"):
        list_sources(tmp_path, PICTURES)
    touch(tmp_path, "toys/a/x/1.PNG")
    with pytest.raises(MetaloomError, match="holds no rows .*, or set `kind: pictures` in params.yaml"):
        list_sources(tmp_path / "toys", VECTORS)


def test_a_linked_file_is_read_and_a_linked_folder_refused(tmp_path):
    touch(tmp_path, "elsewhere/1.png", "data/a/x/1.png")
    (tmp_path / "data/a/x/2.png").symlink_to(tmp_path / "elsewhere/1.png")
    (tmp_path / "data/a/x/3.png").symlink_to(tmp_path / "gone.png")
    contents = dict(read_sources(list_sources(tmp_path / "data", PICTURES)))
    assert contents[1] == b"elsewhere/1.png"
    assert contents[2] == "cannot be read: No such file or directory"
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data")
    with pytest.raises(MetaloomError, match="is a link to a folder"):
        list_sources(tmp_path / "data", PICTURES)


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path):
    touch(tmp_path, "greek/alpha/1.png")
    os.mkfifo(tmp_path / "greek/alpha/2.png")
    with pytest.raises(MetaloomError, match="2.png is a pipe, not a file: remove it there"):
        list_sources(tmp_path, PICTURES)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(MetaloomError, match="pipe.zip is no folder and none of these files"):
        list_elsewhere(tmp_path / "pipe.zip", PICTURES, None)


@pytest.mark.parametrize("name", ["greek/.dvc/config", "greek/alpha/x.dvc", "dvc.yaml", ".hidden/.dvcignore"])
def test_a_file_of_dvcs_own_is_refused_by_name(tmp_path, name):
    touch(tmp_path, "greek/alpha/1.png", name)
    words = f"{tmp_path / name} is one of DVC's own files, .*: remove it there"
    if name.endswith("/.dvc/config"):
        words = f"{tmp_path}/greek is a project of DVC's, not data: name the folder of data inside it"
    with pytest.raises(MetaloomError, match=words):
        list_sources(tmp_path, PICTURES)


def test_what_only_looks_like_one_is_not(tmp_path):
    touch(tmp_path, "greek/alpha.dvc/1.png", ".git/x.dvc", "greek/dvc.yaml.png/2.png")
    assert len(list_sources(tmp_path, PICTURES).items) == 2
