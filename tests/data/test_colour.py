"""`pictures.channels: auto`: read in colour where most pictures are, and said wherever one looks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageOps
from projects import draw_shapes, locked_stages, make_project, run_here, write_params
from typer.testing import CliRunner

from metaloom.cli.data import app
from metaloom.data import scan
from metaloom.data.packed import Dataset
from metaloom.kinds.pictures.kind import Pictures
from metaloom.stages import plan, prepare

PICTURES = 54
READ = Path("dataset")


@pytest.fixture
def place(tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's settings, and a few pictures to be changed in data/."""
    draw_shapes(tmp_path / "data", domains=3, classes=3, examples=6)
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, tmp_path)
    return tmp_path


def coloured(folder: Path, share: float = 1.0) -> None:
    """Some of the pictures, from all over the folder, drawn in red."""
    paths = sorted(folder.rglob("*.png"))
    for place, path in enumerate(paths):
        if int((place + 1) * share) > int(place * share):
            ImageOps.colorize(Image.open(path).convert("L"), (180, 20, 20), "white").save(path)


def set_channels(value: object) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    write_params(Path(), params, {"pictures.channels": value, "prepare.min_examples": 4})


def prepared(channels: object = "auto") -> Dataset:
    set_channels(channels)
    prepare.main("data", "dataset")
    return Dataset.load("dataset")


@pytest.mark.parametrize(
    ("share", "channels", "words"),
    [
        (0.0, 1, None),
        (0.4, 1, "images: read in grey, as only 21 of the 54 looked at are in colour"),
        (0.5, 1, "images: read in grey, as only 27 of the 54 looked at are in colour"),
        (0.6, 3, "images: read in colour, as 32 of the 54 looked at are"),
        (1.0, 3, "images: read in colour, as 54 of the 54 looked at are"),
    ],
)
def test_most_pictures_decide(place: Path, capsys, share, channels, words):
    coloured(Path("data"), share)
    found = prepared()
    assert isinstance(found.kind, Pictures) and found.kind.channels == channels == found.examples.shape[-1]
    assert found.quality.get("reading") == words and found.quality["notes"] == []
    assert ("read in" in capsys.readouterr().out) == (words is not None)


def test_the_plan_keeps_it_and_does_not_print_it_again(place: Path, capsys):
    coloured(Path("data"))
    prepared()
    assert capsys.readouterr().out.count("read in colour") == 1
    plan.main("dataset", "budget.yaml", "plan.json", "splits.yaml")
    assert "read in" not in capsys.readouterr().out
    assert json.loads(Path("plan.json").read_text())["fitted"][0].startswith("images: read in colour")


@pytest.mark.parametrize(
    ("share", "channels", "words"),
    [
        (1.0, 1, "read in grey, though 54 of the 54 looked at are in colour: .*, set pictures.channels: auto"),
        (0.0, 3, "read in colour, though only 0 of the 54 looked at are"),
    ],
)
def test_what_is_written_stays(place: Path, share, channels, words):
    coloured(Path("data"), share)
    found = prepared(channels)
    assert found.examples.shape[-1] == channels
    assert re.fullmatch(f"images: {words}", found.quality["reading"])


def test_unreadable_pictures_decide_nothing(place: Path):
    for path in sorted(Path("data").rglob("*.png"))[: PICTURES // 6]:
        path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    coloured(Path("data/domain2"), 0.9)
    assert Pictures(28, 0).look(b"no picture") is None
    set_channels("auto")
    checked = CliRunner().invoke(app, ["check"])
    assert re.search(r"images: read in grey, as only \d+ of the 4[0-9] looked at are in colour", checked.output)


@pytest.mark.parametrize(("share", "written"), [(1.0, 3), (0.3, 1), (0.0, 1)])
def test_written_or_decided_the_outputs_are_the_same(place: Path, share, written):
    """So that nothing after `prepare` runs again."""
    coloured(Path("data"), share)

    def outputs(channels: object) -> dict[str, bytes]:
        prepared(channels)
        plan.main("dataset", "budget.yaml", "plan.json", "splits.yaml")
        return {path.name: path.read_bytes() for path in [*READ.iterdir(), Path("plan.json")]}

    assert outputs("auto") == outputs(written)
    made = json.loads(Path("plan.json").read_text())
    assert made["pictures"]["channels"] == written
    assert made["fitted"][0].startswith("images: read in") == (share > 0)


def test_only_prepare_reads_the_settings_of_the_kind(repo: Path):
    """The others have them from what it wrote."""
    stages = yaml.safe_load((repo / "dvc.yaml").read_text())["stages"]
    own = {"kind", "${kind}", "pictures", "vectors"}
    assert [name for name, stage in stages.items() if own & set(map(str, stage["params"]))] == ["prepare"]


@pytest.mark.slow
def test_what_was_decided_and_is_then_written_runs_prepare_again_and_nothing_else(tmp_path, shapes):
    root = make_project(tmp_path / "project", shapes)
    coloured(root / "data")
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, "dvc", "repro", "-q", "train@protonet")
    before, params = locked_stages(root), yaml.safe_load((root / "params.yaml").read_text())
    write_params(root, params, {"pictures.channels": 3})
    done = run_here(root, "dvc", "repro", "train@protonet")
    assert re.findall(r"Running stage '(.+)'", done.stdout) == ["prepare"]
    after = locked_stages(root)
    assert {name: each["outs"] for name, each in before.items()} == {name: each["outs"] for name, each in after.items()}


def test_other_data_that_decide_otherwise_are_said(place: Path, capsys):
    prepared()
    coloured(Path("data"))
    capsys.readouterr()
    prepared()
    changed = "pictures.channels is 3, and was 1 with the data before"
    assert changed in capsys.readouterr().out
    prepared()
    assert changed not in capsys.readouterr().out
    (READ / "kind.json").write_text("{")
    assert prepared().kind == Dataset.load("dataset").kind


def test_of_many_pictures_some_are_drawn_whatever_their_order(place: Path, monkeypatch: pytest.MonkeyPatch):
    """Every second one is grey: places at equal distances would have met no other."""
    monkeypatch.setattr(scan, "LOOKED_AT", 27)
    coloured(Path("data"), 0.5)
    found = re.search(r"(\d+) of the 27 looked at", prepared().quality["reading"])
    assert found is not None and 5 < int(found[1]) < 22


def test_check_finds_what_prepare_finds(place: Path):
    coloured(Path("data"), 0.6)
    found = prepared()
    output = CliRunner().invoke(app, ["check"]).output
    assert found.quality["reading"] in output and f"{found.quality['used']:,}" in output


def test_data_added_beside_others_do_not_decide_alone(project: Path, shapes: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(project)
    shutil.copytree(shapes / "domain1", tmp_path / "red")
    coloured(tmp_path / "red")
    alone = CliRunner().invoke(app, ["add", str(tmp_path / "red")]).output
    assert "images: read in colour, as 32 of the 32 looked at are; all of data/ decides (`metaloom data check`" in alone
    assert "images: read in grey, as only" in CliRunner().invoke(app, ["check"]).output
    only = CliRunner().invoke(app, ["add", str(tmp_path / "red"), "--only", "--replace"]).output
    assert "images: read in colour, as 32 of the 32 looked at are\n" in only
