from __future__ import annotations

import hashlib
import io
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaloom.data.packed import Dataset
from metaloom.data.quality import twins
from metaloom.errors import MetaloomError
from metaloom.stages import prepare
from metaloom.system import parallel
from metaloom.system.parallel import parallel_map


def picture(seed: int, side: int = 28) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def place(tmp_path, repo, monkeypatch) -> Path:
    """Two domains of two classes of ten noise pictures in data/, and params.yaml."""
    shutil.copy(repo / "params.yaml", tmp_path)
    for n, name in enumerate(("a/x", "a/y", "b/x", "b/y")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for example in range(10):
            (tmp_path / "data" / name / f"{example}.png").write_bytes(picture(100 * n + example))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run() -> Dataset:
    prepare.main("data", "artifacts/dataset")
    return Dataset.load("artifacts/dataset")


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_rows_are_the_files(place):
    dataset = run()
    items = dataset.items
    assert list(items.columns) == ["row", "class", "domain", "source", "sha256", "split"]
    assert set(items["split"]) == {""} and dataset.quality["notes"] == []
    assert items["row"].tolist() == list(range(40)) and items["row"].dtype == np.int32
    order = list(zip(items["domain"], items["class"], items["source"], strict=True))
    assert order == sorted(order)
    assert dataset.examples.shape == (40, 28, 28, 1) and isinstance(dataset.examples, np.memmap)
    for row, source, sha256, class_name in items[["row", "source", "sha256", "class"]].itertuples(index=False):
        content = (place / "data" / source).read_bytes()
        assert sha256 == hashlib.sha256(content).hexdigest() and source.startswith(class_name)
        assert np.array_equal(dataset.examples[row, :, :, 0], np.asarray(Image.open(io.BytesIO(content))))
    assert dataset.quality["examples"] == dataset.quality["used"] == 40
    assert (dataset.quality["classes"], dataset.quality["domains"]) == (4, 2)


def test_the_same_bytes_again_and_from_an_archive_in_another_order(place):
    run()
    first = digest(place / "artifacts/dataset")
    run()
    assert digest(place / "artifacts/dataset") == first
    with zipfile.ZipFile("data/all.zip", "w") as archive:
        for file in sorted((place / "data").rglob("*.png"), reverse=True):
            archive.write(file, file.relative_to(place / "data"))
    for name in ("a", "b"):
        shutil.rmtree(place / "data" / name)
    run()
    again = digest(place / "artifacts/dataset")
    assert again["examples.npy"] == first["examples.npy"]


def test_everything_wrong_is_listed(place):
    settings = (place / "params.yaml").read_text().replace("max_bad_share: 0.05", "max_bad_share: 0.5")
    (place / "params.yaml").write_text(settings)
    data = place / "data"
    (data / "a/x/broken.png").write_bytes(picture(7)[:300])
    (data / "a/x/text.png").write_text("hello")
    (data / "a/y/copy.png").write_bytes((data / "a/y/3.png").read_bytes())
    (data / "a/y/tenth.png").write_bytes(picture(999))
    (data / "b/x/other.png").write_bytes((data / "a/x/0.png").read_bytes())
    (data / "a/x/one more.png").write_bytes(picture(998))
    (data / "b/small").mkdir()
    (data / "b/small/1.png").write_bytes(picture(997))
    (data / "b/empty").mkdir()
    (data / "README.md").write_text("hello")
    dataset = run()
    problems = dataset.quality["problems"]
    assert [each["source"] for each in problems["unreadable"]] == ["a/x/broken.png", "a/x/text.png"]
    assert problems["duplicate"] == [{"source": "a/y/copy.png", "of": "a/y/3.png"}]
    assert problems["conflict"] == [{"sources": ["a/x/0.png", "b/x/other.png"]}]
    assert problems["small_class"] == [{"class": "b/small", "examples": 1}]
    assert problems["empty_class"] == ["b/empty"] and problems["ignored"] == ["README.md"]
    gone = {"a/x/broken.png", "a/x/text.png", "a/y/copy.png", "a/x/0.png", "b/x/other.png", "b/small/1.png"}
    everything = {str(file.relative_to(data)) for file in data.rglob("*.png")}
    assert set(dataset.items["source"]) == everything - gone
    assert dataset.quality["used"] == len(dataset.examples) == 41 and dataset.quality["examples"] == 47
    assert dataset.quality["bad_share"] == round(5 / 47, 6)
    row = dataset.items.set_index("source").loc["a/x/one more.png", "row"]
    assert np.array_equal(dataset.examples[row, :, :, 0], np.asarray(Image.open(data / "a/x/one more.png")))


def test_folders_that_lie_otherwise_are_shown(place, capsys):
    run()
    assert "layout" not in capsys.readouterr().out
    (place / "data/a").rename(place / "data/train")
    (place / "data/b").rename(place / "data/test")
    run()
    said = capsys.readouterr().out
    assert "layout found: splits" in said and "  train/  20 files in 2 folders\n" in said and "put together" in said


def test_names_that_look_the_same_are_said(place, capsys):
    for number, name in enumerate(("caf\u00e9", "cafe\u0301", "X")):
        (place / "data/a" / name).mkdir()
        for example in range(10):
            (place / f"data/a/{name}/{example}.png").write_bytes(picture(1000 * (number + 1) + example))
    notes = run().quality["notes"]
    assert notes[1] == (
        "a/X and a/x differ in upper and lower case alone: if they are one, give them one name "
        "(`metaloom data merge` does it for folders)"
    )
    assert notes[0].startswith("a/cafe\u0301 (NFD) and a/caf\u00e9 (NFC) differ in how Unicode writes a letter")
    assert all(note in capsys.readouterr().out for note in notes[:1])


def test_domains_that_look_the_same_are_said_once():
    assert len(twins(["set/A/x", "set/A/y", "set/a/x", "set/a/y", "set/b/x"])) == 1
    assert twins(["a/x", "b/x", "b/y"]) == []


def test_twins_are_said_where_they_stop_the_run(place):
    shutil.copytree(place / "data/a", place / "data/A")
    with pytest.raises(MetaloomError, match="one image in two classes.*A and a differ in upper and lower case alone"):
        run()


def test_blank_pictures_are_left_out_by_name(place):
    Image.new("L", (28, 28), 255).save(place / "data/a/x/blank.png")
    Image.new("L", (28, 28), 255).save(place / "data/b/x/blank.png")
    problems = run().quality["problems"]
    reason = "is blank: all its pixels are alike"
    assert problems["unreadable"] == [{"source": f"{name}/x/blank.png", "reason": reason} for name in "ab"]
    assert problems["conflict"] == []


def test_too_much_that_is_bad_stops_and_leaves_the_old_data_set(place):
    run()
    before = digest(place / "artifacts/dataset")
    for example in range(3):
        (place / f"data/a/x/bad{example}.png").write_text("hello")
    with pytest.raises(MetaloomError, match=r"7\.0% of 43 images.*a/x/bad0\.png is no PNG.*max_bad_share"):
        run()
    assert digest(place / "artifacts/dataset") == before
    assert [entry.name for entry in (place / "artifacts").iterdir()] == ["dataset"]


def test_a_class_lost_to_conflicts_counts_as_small(place):
    (place / "params.yaml").write_text(
        (place / "params.yaml").read_text().replace("max_bad_share: 0.05", "max_bad_share: 1")
    )
    for example in range(10):
        shutil.copy(place / f"data/a/x/{example}.png", place / f"data/a/y/copy{example}.png")
    problems = run().quality["problems"]
    assert problems["small_class"] == [{"class": "a/x", "examples": 0}]


def test_no_class_large_enough(place):
    (place / "params.yaml").write_text(
        (place / "params.yaml").read_text().replace("min_examples: auto", "min_examples: 11")
    )
    with pytest.raises(MetaloomError, match="no class has 11 usable images.*prepare.min_examples"):
        run()


def test_colour_and_another_size(place):
    settings = (place / "params.yaml").read_text()
    settings = settings.replace("image_size: 28", "image_size: 20").replace("channels: auto", "channels: 3")
    (place / "params.yaml").write_text(settings)
    assert run().examples.shape == (40, 20, 20, 3)


def test_an_absent_or_damaged_data_set_says_how_to_make_it(place):
    with pytest.raises(MetaloomError, match="dvc repro prepare"):
        Dataset.load("artifacts/dataset")
    run()
    images = place / "artifacts/dataset/examples.npy"
    images.write_bytes(images.read_bytes()[:500])
    with pytest.raises(MetaloomError, match="is damaged.*dvc repro -f prepare"):
        Dataset.load("artifacts/dataset")
    (place / "artifacts/dataset/kind.json").write_text('{"kind": "pictures", "channels": 1}')
    with pytest.raises(MetaloomError, match="kind.json: .* lacks image_size: `dvc repro -f prepare`"):
        Dataset.load("artifacts/dataset")


@pytest.mark.slow
def test_many_batches_through_processes(place, monkeypatch):
    from metaloom.data import scan

    run()
    whole = digest(place / "artifacts/dataset")
    monkeypatch.setattr(scan, "_BATCH_FILES", 7)
    monkeypatch.setattr(parallel, "ALONE", 0.0)
    run()
    assert digest(place / "artifacts/dataset") == whole


def test_processes_are_started_where_the_work_takes_longer_than_their_start(monkeypatch):
    def pool(*_, **__):
        raise LookupError

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", pool)
    assert list(parallel_map(abs, [-1, -2, -3])) == [1, 2, 3]
    monkeypatch.setattr(parallel, "n_workers", lambda: 2)
    results = parallel_map(lambda seconds: time.sleep(seconds) or seconds, [0.02, 0.1, 0.1])
    monkeypatch.setattr(parallel, "ALONE", 0.05)
    assert [next(results), next(results)] == [0.02, 0.1]
    with pytest.raises(LookupError):
        next(results)


def test_parallel_map_keeps_the_order_and_draws_little_ahead():
    drawn = []

    def pieces():
        for piece in range(50):
            drawn.append(piece)
            yield piece - 25

    results = parallel_map(abs, pieces(), workers=2)
    assert next(results) == 25 and len(drawn) < 10
    assert [25, *results] == [abs(piece - 25) for piece in range(50)]
