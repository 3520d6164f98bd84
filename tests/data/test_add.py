from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tables import draw_tables
from texts import drawn_texts, write_texts
from typer.testing import CliRunner

from metaloom.cli.data import app
from metaloom.config import OVERRIDES, load_settings
from metaloom.errors import MetaloomError


@pytest.fixture
def here(project, monkeypatch) -> Path:
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def more(shapes, tmp_path_factory) -> Path:
    """A folder of two class folders, of pictures that data/ does not hold."""
    folder = tmp_path_factory.mktemp("more") / "domain10"
    for source in sorted((shapes / "domain0").glob("class[01]/[0-6].png")):
        target = folder / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(target)
    return folder


def metaloom_data(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return f"{done.exit_code} {done.output}"


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def archived(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


def test_a_folder_is_copied_and_versioned(here, more):
    before = names(here / "data")
    output = metaloom_data("add", more, "--name", "fresh")
    assert "14 images of 2 classes in 1 domain (fresh)" in output and "version" in output
    assert output.splitlines()[-1].startswith("next: `metaloom plan` shows")
    assert names(here / "data") == before | {"fresh"}
    assert names(here / "data/fresh") == names(more)
    assert (here / "data.dvc").is_file() and "--only" in output
    assert not (here / ".metaloom/adding").exists()


def test_a_link_that_leads_nowhere_is_one_unreadable_file(here, more, monkeypatch):
    monkeypatch.setenv(OVERRIDES, '{"prepare.max_bad_share": 0.5}')
    (more / "class0/broken.png").symlink_to("/nowhere/at/all.png")
    output = metaloom_data("add", more, "--name", "fresh")
    assert "14 images of 2 classes" in output and "left out: 1 unreadable" in output
    assert names(here / "data/fresh/class0") == names(more / "class0") - {"broken.png"}


def test_an_archive_stays_an_archive(here, more, tmp_path_factory):
    path = archived(more, tmp_path_factory.mktemp("archive") / "fresh.zip")
    assert "in 1 domain (greek)" in metaloom_data("add", path, "--name", "greek")
    assert (here / "data/greek.zip").read_bytes() == path.read_bytes()


def test_the_layout_is_shown_and_can_be_given(here, more):
    output = metaloom_data("add", more, "--name", "fresh")
    assert "layout found: flat, class/file" in output and "fresh/\n  class0/  7 files\n  class1/  7 files\n" in output
    assert not (here / "data/layouts.yaml").exists()
    (more / "class0").rename(more / "session")
    (more / "class0").mkdir()
    (more / "session").rename(more / "class0/session")
    output = metaloom_data("add", more, "--name", "fresh", "--replace", "--layout", "flat")
    assert "14 images of 2 classes in 1 domain (fresh)" in output and "layout: flat" in output
    assert (here / "data/layouts.yaml").read_text() == "fresh: flat\n"
    assert "in 2 domains (fresh, fresh/class0)" in metaloom_data("add", more, "--name", "fresh", "--replace")
    assert not (here / "data/layouts.yaml").exists()
    metaloom_data("add", more, "--name", "only", "--only", "--layout", "domains")
    assert names(here / "data") == {"only", "layouts.yaml"}
    with pytest.raises(MetaloomError, match="--layout: there is no layout 'tree'; there are domains"):
        metaloom_data("add", more, "--layout", "tree")


def test_an_existing_name_is_refused_unless_replaced(here, more):
    taken = here / "data/domain0"
    before = {str(file): file.read_bytes() for file in taken.rglob("*.png")}
    with pytest.raises(MetaloomError, match="data/domain0 exists: add --replace"):
        metaloom_data("add", more, "--name", "domain0")
    assert {str(file): file.read_bytes() for file in taken.rglob("*.png")} == before
    metaloom_data("add", more, "--name", "domain0", "--replace")
    assert {file.relative_to(taken) for file in taken.rglob("*.png")} == {
        file.relative_to(more) for file in more.rglob("*.png")
    }


def test_only_takes_the_rest_out_and_keeps_it_in_the_cache(here, more):
    output = metaloom_data("add", more, "--name", "fresh", "--only")
    assert names(here / "data") == {"fresh"} and "to go back" in output
    assert len(list((here / ".dvc/cache/files/md5").rglob("*"))) > 100


def test_only_replaces_what_has_the_name_no_more_silently_than_without_it(here, more):
    before = names(here / "data")
    with pytest.raises(MetaloomError, match="data/domain0 exists: add --replace"):
        metaloom_data("add", more, "--name", "domain0", "--only")
    assert names(here / "data") == before
    metaloom_data("add", more, "--name", "domain0", "--only", "--replace")
    assert names(here / "data") == {"domain0"} and names(here / "data/domain0") == names(more)


def test_texts_bring_their_settings_along_where_nothing_else_is_there(here, tmp_path_factory):
    table = write_texts(tmp_path_factory.mktemp("texts") / "home.csv", drawn_texts("home"))
    with pytest.raises(MetaloomError, match=r"what is in data is of `kind: pictures`: `metaloom data add .* --only`"):
        metaloom_data("add", table)
    assert load_settings().kind == "pictures" and not (here / "data/home.csv").exists()
    with pytest.raises(MetaloomError, match="--label x: give a PATH with it; what is in data/ has its own"):
        metaloom_data("check", "--label", "x")
    checked = metaloom_data("check", table, "--label", "label")
    assert "kind found: text (text in column `text`, label in column `label` of" in checked and "48" in checked
    assert "written into params.yaml: kind: text, network.name: linear" in metaloom_data("add", table, "--only")
    assert (load_settings().kind, load_settings().network.name) == ("text", "linear")
    more = write_texts(table.with_name("shop.tsv"), drawn_texts("shop"))
    assert "written" not in metaloom_data("add", more)
    draw_tables(table.with_name("numbers"), domains=1)
    with pytest.raises(
        MetaloomError, match=r"holds rows, and params.yaml says `kind: text`: `--kind vectors` writes `kind: v"
    ):
        metaloom_data("add", table.with_name("numbers"), "--only")
    assert "kind: vectors" in metaloom_data("add", table.with_name("numbers"), "--only", "--kind", "vectors")


def test_a_table_that_does_not_fit_the_others_is_refused_before_it_is_there(here, tmp_path_factory):
    """In data/ it would be the first of them, and the good one the one that is blamed."""
    folder = tmp_path_factory.mktemp("odd") / "tables"
    draw_tables(folder, domains=4)
    (good, other), name = sorted(folder.glob("*.csv")), "aaa.csv"
    metaloom_data("add", good, "--only")
    table = pd.read_csv(other).iloc[:, :-1]
    table.to_csv(other, index=False)
    for more in ((), ("--replace",)):
        with pytest.raises(
            MetaloomError, match=r"aaa.csv has other columns than .* is missing; give it the same names"
        ):
            metaloom_data("add", other, "--name", name, *more)
    assert names(here / "data") == {good.name} and metaloom_data("check").startswith("0 ")
    with pytest.raises(MetaloomError, match="needs `vectors.label: kind` in params.yaml"):
        table.rename(columns={"class": "kind"}).to_csv(other, index=False)
        metaloom_data("add", other)
    assert "added data/" in metaloom_data("add", other, "--only")  # by itself it may be of any columns


def test_bad_input_changes_nothing(here, more, tmp_path_factory):
    away = tmp_path_factory.mktemp("bad")
    before = names(here / "data")
    (away / "flat").mkdir()
    shutil.copy(next(more.rglob("*.png")), away / "flat/1.png")
    (away / "empty").mkdir()
    with zipfile.ZipFile(away / "evil.zip", "w") as archive:
        archive.writestr("../evil/a/1.png", b"x")
    shutil.copytree(more, away / "broken")
    for file in sorted((away / "broken/class0").iterdir())[:3]:
        file.write_text("hello")
    for name in ("text.txt", "table.CSV"):
        (away / name).touch()
    cases = {
        "gone": r"not found: give a folder or one of these files: \.zip, .*\.tgz$",
        "text.txt": r"is no folder and none of these files: \.zip, \.tar, \.tar\.gz, \.tgz$",
        "table.CSV": r"table.CSV is no CSV, TSV, JSON lines or Parquet table \(No columns",
        "flat": "belongs in a class folder",
        "empty": "holds no images",
        "evil.zip": "unsafe path",
        "broken": r"21\.4% of 14 images are unusable",
    }
    for name, message in cases.items():
        with pytest.raises(MetaloomError, match=message):
            metaloom_data("add", away / name)
    message = r"none of these files: .*\.tgz; for a table set `kind: vectors` or `kind: text` in params\.yaml$"
    with pytest.raises(MetaloomError, match=message):
        metaloom_data("add", away / "table.CSV", "--kind", "pictures")
    with pytest.raises(MetaloomError, match=r"--kind words: there are pictures, vectors, text"):
        metaloom_data("add", more, "--kind", "words")
    (away / "unpacked.zip").mkdir()
    with pytest.raises(MetaloomError, match=r"unpacked.zip is a folder, and unpacked.zip ends like an archive's name"):
        metaloom_data("add", away / "unpacked.zip")
    with pytest.raises(MetaloomError, match="lie in one another"):
        metaloom_data("add", here / "data/domain1", "--name", "x")
    for name in ("../x", ".x", "a/b", ""):
        with pytest.raises(MetaloomError, match="give one name"):
            metaloom_data("add", more, "--name", name)
    assert names(here / "data") == before and not (here / "data.dvc").exists()


def test_data_that_is_not_fetched_is_not_forgotten(here, more):
    metaloom_data("add", more, "--name", "fresh")
    shutil.rmtree(here / "data")
    with pytest.raises(MetaloomError, match="dvc pull"):
        metaloom_data("add", more, "--name", "other")
    assert "added data/other" in metaloom_data("add", more, "--name", "other", "--only")


def test_check_lists_what_is_wrong_and_writes_nothing(here):
    output = metaloom_data("check")
    assert output.startswith("0 ") and "within prepare.max_bad_share" in output
    (here / "data/domain0/class0/0.png").write_text("hello")
    (here / "data/domain0/class0/README").write_text("hello")
    output = metaloom_data("check")
    assert output.startswith("0 ") and "is no PNG" in output and "class0/README" in output
    for file in sorted((here / "data").rglob("*.png"))[:40]:
        file.write_text("hello")
    assert metaloom_data("check").startswith("1 ")
    assert not (here / "artifacts").exists() and not (here / "data.dvc").exists()


def test_what_is_refused_is_listed_before_it_is_added(here, more):
    """The refusal names the command that lists the rest, with the layout that was given."""
    broken = sorted((more / "class0").iterdir())[:5]
    for file in broken:
        file.write_text("hello")
    before = names(here / "data")
    with pytest.raises(MetaloomError, match="Fix or remove them") as refused:
        metaloom_data("add", more, "--layout", "flat")
    command = re.findall(r"`metaloom data (.*?)`", str(refused.value))[0]
    assert command == f"check {more} --layout flat"
    output = metaloom_data(*command.split())
    assert output.startswith("1 ") and "layout: flat" in output and "over prepare.max_bad_share" in output
    assert all(f"{more.name}/class0/{file.name}" in output for file in broken)
    assert names(here / "data") == before
    with pytest.raises(MetaloomError, match="give a PATH with it"):
        metaloom_data("check", "--layout", "flat")
    with pytest.raises(MetaloomError, match="not found: give a folder or one of these files"):
        metaloom_data("check", here / "absent")
    (here / "loop").symlink_to("loop")
    with pytest.raises(MetaloomError, match="not found: give a folder or one of these files"):
        metaloom_data("check", here / "loop")


def test_what_is_in_data_already_is_counted_and_more_than_may_be_is_refused(here, more, tmp_path_factory, monkeypatch):
    again = Path(shutil.copytree(here / "data", tmp_path_factory.mktemp("copy") / "again"))
    before = names(here / "data")
    total = len(list(again.rglob("*.png")))
    with pytest.raises(MetaloomError) as refused:
        metaloom_data("add", again)
    said = str(refused.value)
    assert f"{total:,} of {total:,} images are in data/ already, in domain0, " in said and "Nothing was added" in said
    assert re.search(
        r"\(again/domain0/class0/0.png is domain0/class0/0.png\): with them (49|50|100)\.\d% of data/", said
    )
    assert names(here / "data") == before
    shutil.copy(here / "data/domain3/class1/0.png", more / "class0/known.png")
    output = metaloom_data("add", more, "--name", "fresh")
    assert "1 of 15 images is in data/ already, in domain3 (fresh/class0/known.png is domain3/class1/0.png): " in output
    assert "already" not in metaloom_data("add", more, "--name", "alone", "--only")
    assert "already" not in metaloom_data("add", more, "--name", "alone", "--replace")  # of itself
