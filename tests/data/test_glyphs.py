from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from metaloom.config import MOST, value_at
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.glyphs import build as glyphs
from metaloom.kinds.pictures.glyphs import drawings, letters
from metaloom.kinds.pictures.glyphs.build import build_glyphs, draw_letter
from metaloom.kinds.pictures.glyphs.drawings import Chance, draw
from metaloom.kinds.pictures.glyphs.letters import Letter, alike_pairs, raster
from metaloom.kinds.pictures.png import encode_grey16
from metaloom.stages import plan, prepare, split
from metaloom.versioning.data import held_version
from metaloom.versioning.objects import hash_of
from metaloom.versioning.project import open_project


def test_png_is_what_pillow_reads():
    for shape in ((28, 28), (5, 7), (1, 1), (400, 500)):
        levels = np.random.default_rng(0).integers(0, 16, shape, np.uint8)
        with Image.open(io.BytesIO(encode_grey16(levels))) as image:
            assert np.array_equal(np.asarray(image.convert("L")), levels * 17)


def test_chance_is_fair_and_fixed():
    numbers = Chance("a name", 20000).draw(-3, 3, 20000)
    counts = np.bincount(numbers + 3, minlength=7)
    assert len(counts) == 7 and np.abs(counts - 20000 / 7).max() < 250
    # printf 'a name' | openssl dgst -shake128 -xoflen 4
    assert Chance("a name", 1).one(0, 2**32 - 1) == int.from_bytes(bytes.fromhex("30aca2cd"), "little")


def test_drawings_are_dark_on_light_and_differ():
    pictures = draw_letter(Letter(ord("Ж"), "cyrillic", ("DejaVuSans.ttf", "DejaVuSerif.ttf")))
    assert len(pictures) == 20 and all(picture.shape == (28, 28) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 20
    for picture in pictures:
        assert picture.max() <= 15 and 30 < (picture < 8).sum() < 450
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert np.median(edge) >= 14


def test_an_undistorted_drawing_is_the_letter(monkeypatch):
    still = {"_SIZE": (22 * 64, 22 * 64), "_SQUEEZE": (4096, 4096), "_STROKES": (0,), "_INK": (255, 255)}
    still |= {"_ROTATION": 0, "_SHEAR": 0, "_SHIFT": 0, "_ELASTIC": 0, "_NOISE": 0}
    for name, value in still.items():
        monkeypatch.setattr(drawings, name, value)
    ink = raster("DejaVuSans.ttf", ord("Ж"))
    drawn = 15 - draw(ink, "x").astype(float)
    height, width = (round(22 * side / max(ink.shape)) for side in ink.shape)
    picture = Image.fromarray((ink * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BOX)
    expected = np.zeros((28, 28))
    top, left = (28 - height) // 2, (28 - width) // 2
    expected[top : top + height, left : left + width] = np.asarray(picture) / 17
    assert np.corrcoef(drawn.ravel(), expected.ravel())[0, 1] > 0.95


def test_the_elastic_grid_is_a_partition_of_unity():
    flat = drawings._smooth(np.full((drawings._GRID + 3) ** 2, 100))
    assert (flat == 100).all()


def test_letters_that_look_alike():
    faces = "DejaVuSans.ttf"
    alike = alike_pairs([raster(faces, ord(letter)) for letter in "AАΑoOBLXxÖO"])
    assert alike[0, 1] and alike[0, 2] and alike[3, 4] and alike[7, 8]  # three scripts' A; o and O; X and x
    assert not alike[0, 5] and not alike[5, 6] and not alike[9, 10]  # A, B; B, L; Ö, O
    assert np.array_equal(alike, alike.T)


def test_proportions_tell_letters_apart():
    wide, tall = np.ones((20, 100), np.uint8), np.ones((100, 20), np.uint8)
    assert not alike_pairs([wide, tall])[0, 1] and alike_pairs([wide, wide])[0, 1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, glyphs.Glyphs]:
    folder = tmp_path_factory.mktemp("glyphs") / "data"
    return folder, build_glyphs(folder)


def classes(folder: Path) -> dict[str, Counter]:
    found = {}
    for path in folder.iterdir():
        with zipfile.ZipFile(path) as archive:
            found[path.stem] = Counter(name.split("/")[0] for name in archive.namelist())
    return found


def test_of_a_few_letters_each_is_built_once(tmp_path, monkeypatch):
    """Three scripts' A look alike; the same bytes again."""
    some = [letter for letter in letters.all_letters() if chr(letter.code) in "AАΑЖШאש"]
    assert len(some) == 7
    monkeypatch.setattr(letters, "all_letters", lambda: some)
    summary = build_glyphs(tmp_path / "once")
    assert (summary.classes, summary.images, summary.homoglyphs) == (5, 100, 2)
    assert {script: len(each) for script, each in classes(tmp_path / "once").items()}["hebrew"] == 2
    build_glyphs(tmp_path / "again")
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.sweep
def test_there_are_enough_of_them(built):
    folder, summary = built
    found = classes(folder)
    assert len(found) == summary.domains >= 12
    assert sum(len(each) for each in found.values()) == summary.classes >= 1200
    assert all(count == 20 for each in found.values() for count in each.values())
    assert summary.images == 20 * summary.classes
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6
    assert summary.homoglyphs > 300 and summary.lookalikes > 300


@pytest.mark.slow
def test_of_homoglyphs_one_is_kept(built):
    kept = [int(name.split("_")[0][2:], 16) for each in classes(built[0]).values() for name in each]
    assert len(set(kept)) == len(kept)
    for group in ("AАΑꓮ", "oоοO0օОΟ", "HНΗ", "сcСC", "ТTΤ", "зЗ"):
        assert sum(ord(letter) in kept for letter in group) <= 1, group
    for letter in "אשЖΨΞ":
        assert ord(letter) in kept


@pytest.mark.slow
def test_every_picture_decodes_and_no_two_are_equal(built):
    seen = set()
    for path in built[0].iterdir():
        with zipfile.ZipFile(path) as archive:
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            for name in archive.namelist()[::7]:
                with Image.open(io.BytesIO(archive.read(name))) as image:
                    assert image.size == (28, 28)
                    seen.add((name, image.tobytes()))
    assert len({pixels for _, pixels in seen}) == len(seen)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.png").touch()
    with pytest.raises(MetaloomError, match="is not empty"):
        build_glyphs(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.png"]


def test_faces_without_letters_are_not_used():
    names = letters.face_paths()
    assert "DejaVuSans.ttf" in names and not [name for name in names if "LastResort" in name]


@pytest.fixture
def project(tmp_path) -> Path:
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.slow
def test_the_build_is_the_version_in_data_dvc(built, repo, project):
    shutil.copytree(built[0], project / "data")
    assert held_version(project) == yaml.safe_load((repo / "data.dvc").read_text())["outs"][0]["md5"]


@pytest.mark.slow
def test_prepared_and_split_it_has_the_hashes_of_dvc_lock(built, repo, project, monkeypatch):
    """What a clone without cache or remote makes is what the committed run had."""
    shutil.copy(repo / "params.yaml", project)
    monkeypatch.chdir(project)
    prepare.main(str(built[0]), "artifacts/dataset", "artifacts/data_version.txt")
    plan.main("artifacts/dataset", "budget.yaml", "artifacts/plan.json", "splits.yaml")
    made = json.loads((project / "artifacts/plan.json").read_text())
    decided = {"pictures.channels": 1}
    assert {key: value_at(made, key) for key in MOST} == MOST | decided and not made["fitted"]
    split.main("artifacts/dataset", "artifacts/plan.json", "splits.yaml", "artifacts/splits")
    lock = yaml.safe_load((repo / "dvc.lock").read_text())["stages"]
    expected = {out["path"]: out["md5"] for name in ("prepare", "split") for out in lock[name]["outs"]}
    with open_project(project) as opened:
        assert {path: hash_of(opened, project / path) for path in expected} == expected
