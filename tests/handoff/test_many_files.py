"""`metaloom predict` over folders, lists and many files, and a bundle in Python."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import metaloom
from metaloom.cli.app import app
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle import answers_file, in_order
from metaloom.handoff.bundle import predict as asking
from metaloom.handoff.bundle.predict import predict


@pytest.fixture
def drawings(shapes: Path, tmp_path: Path) -> Path:
    """Two folders of drawings, of two sizes, with what systems leave beside them."""
    for number, source in enumerate(sorted((shapes / "domain0").rglob("*.png"))[:9]):
        target = tmp_path / "pictures" / f"{number % 2}" / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            (image.resize((31, 17)) if number % 3 == 0 else image).save(target)
    (tmp_path / "pictures/0/Thumbs.db").write_bytes(b"junk")
    (tmp_path / "pictures/.hidden.png").write_bytes(b"junk")
    (tmp_path / "pictures/notes.md").write_text("words")
    return tmp_path / "pictures"


def run(*arguments: object, given: str | bytes | None = None) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)], input=given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def in_order_of(drawings: Path) -> list[Path]:
    return [path for folder in ("0", "1") for path in sorted((drawings / folder).glob("*.png"))]


def test_a_folder_is_all_examples_in_it(bundle: Path, drawings: Path):
    code, out, errors = run(bundle, drawings)
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(path) for path in in_order_of(drawings)]
    assert f"{drawings}: {drawings}/notes.md skipped" in errors and "Thumbs.db" not in errors


def test_many_files_are_answered_in_their_order_whatever_thread_reads_them(bundle: Path, drawings: Path, monkeypatch):
    monkeypatch.setattr(asking, "BATCH", 4)
    monkeypatch.setattr(asking, "LARGEST", 2000)  # bytes: a batch is asked in parts
    monkeypatch.setattr(in_order, "workers", lambda: 3)
    files = [path for _ in range(8) for path in in_order_of(drawings)]
    files[5:5] = [drawings / "absent.png"]
    bad: list[MetaloomError] = []
    found = predict(bundle, files, on_bad=bad.append)
    assert [each.example for each in found] == [str(path) for path in files if path.name != "absent.png"]
    assert [str(error) for error in bad] == [f"{drawings}/absent.png: there is no such file"]
    for each, alone in zip(found[:9], predict(bundle, in_order_of(drawings)), strict=True):
        assert each.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    with pytest.raises(MetaloomError, match=r"absent\.png: there is no such file"):
        predict(bundle, files)


def test_predict_needs_little(bundle: Path, drawings: Path, tmp_path: Path):
    """What a process that predicts must not wait for."""
    script = "import sys; from metaloom.cli.app import main\ntry: main()\nfinally: print(*sys.modules)"
    command = [sys.executable, "-c", script, "predict", str(bundle), str(drawings), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "scipy", "pandas", "sklearn", "prefect", "dvc", "numba", "onnx", "matplotlib"}


def test_pictures_of_other_sizes_reach_the_graph_at_its_own(bundle: Path, drawings: Path):
    asked = asking.Asked.open(bundle)
    (raw,) = (each.raw for each in asking.read_argument(in_order_of(drawings)[0], asked.kind))
    (small,) = asked.kind.for_graph([raw])
    assert raw.shape == (17, 31, 1) and small.shape == (28, 28, 1)
    for one, other in zip(asked._answers(raw[None]), asked._answers(small[None]), strict=True):
        np.testing.assert_array_equal(one, other)  # the graph makes the same pixels itself


def test_files_of_many_sizes_are_answered_as_alone(bundle: Path, drawings: Path):
    files = in_order_of(drawings)
    for found, file in zip(predict(bundle, files), files, strict=True):
        (alone,) = predict(bundle, [file])
        assert found.example == alone.example == str(file)
        assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
        assert found.novelty == pytest.approx(alone.novelty, rel=1e-4)


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_names_come_from_standard_input(separator: str, bundle: Path, drawings: Path):
    names = [str(path) for path in in_order_of(drawings)]
    code, out, _ = run(bundle, "-", "--json", given=separator.join([*names, ""]))
    assert code == 0 and [each["example"] for each in json.loads(out)] == names


def test_many_names_that_are_not_there_are_ten_lines_and_a_number(bundle: Path, drawings: Path):
    there = in_order_of(drawings)[3]
    absent = "\n".join(f"absent/{number}.png" for number in range(2000))
    code, out, errors = run(bundle, "-", given=f"{absent}\n{there}\n")
    assert code == 1 and out.startswith(f"{there}\t")
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 11 and lines[-1] == "error: 1,990 more files could not be read"


def test_a_table_has_what_csv_prints(bundle: Path, drawings: Path, tmp_path: Path):
    code, out, _ = run(bundle, drawings, "--out", tmp_path / "a.csv")
    assert code == 0 and f"{tmp_path}/a.csv: 9 answers" in out
    _, printed, _ = run(bundle, drawings, "--csv")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == printed
    assert run(bundle, drawings, "--out", tmp_path / "a.parquet")[0] == 0
    table = pd.read_parquet(tmp_path / "a.parquet")
    expected = pd.read_csv(io.StringIO(printed))
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-6)
    assert {path.name for path in tmp_path.glob("*a.*")} == {"a.csv", "a.parquet"}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_was_killed_goes_on_from_there(ending: str, bundle: Path, drawings: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(answers_file, "PART", 2)
    monkeypatch.setattr(asking, "BATCH", 2)
    monkeypatch.setattr(in_order, "MOST", 1)  # files are read in their order
    out, whole = tmp_path / f"a.{ending}", tmp_path / f"whole.{ending}"
    run(bundle, drawings, "--out", whole)
    asked: list[Path] = []
    read = asking.read_argument

    def killed(path, *options):
        if len(asked) == 6:
            raise KeyboardInterrupt
        asked.append(path)
        return read(path, *options)

    monkeypatch.setattr(asking, "read_argument", killed)
    assert run(bundle, drawings, "--out", out)[0] == 130
    assert not out.exists()
    first = list(asked)
    monkeypatch.setattr(asking, "read_argument", lambda path, *options: asked.append(path) or read(path, *options))
    code, said, _ = run(bundle, drawings, "--out", out)
    assert code == 0 and "goes on: 4 files answered before" in said
    assert asked == [*first, *in_order_of(drawings)[4:]]
    assert answers_file._read(out) == answers_file._read(whole)
    assert not list(tmp_path.glob(".a.*"))


def half_made(bundle: Path, drawings: Path, out: Path, monkeypatch) -> None:
    """As after a kill before the table was put together."""
    monkeypatch.setattr(answers_file, "PART", 1)
    with monkeypatch.context() as patch:
        patch.setattr(answers_file.AnswersFile, "finish", lambda self: self._flush() or 0)
        run(bundle, drawings, "--out", out)
    assert not out.exists()


def test_a_file_that_has_changed_is_asked_again(bundle: Path, drawings: Path, tmp_path: Path, monkeypatch):
    half_made(bundle, drawings, tmp_path / "a.csv", monkeypatch)
    with Image.open(drawings / "0/0.png") as image:
        turned = image.transpose(Image.Transpose.ROTATE_180)
    turned.save(drawings / "0/0.png")
    code, said, _ = run(bundle, drawings, "--out", tmp_path / "a.csv")
    assert code == 0 and "goes on" not in said
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        found = {row["example"]: float(row["novelty"]) for row in csv.DictReader(file)}
    assert found == {each.example: pytest.approx(each.novelty) for each in predict(bundle, in_order_of(drawings))}


def test_answers_that_are_not_asked_for_any_more_are_not_kept(
    bundle: Path, drawings: Path, tmp_path: Path, monkeypatch
):
    names = "\n".join(str(path) for path in in_order_of(drawings))
    monkeypatch.setattr(answers_file, "PART", 1)
    with monkeypatch.context() as patch:
        patch.setattr(answers_file.AnswersFile, "finish", lambda self: self._flush() or 0)
        run(bundle, "-", "--out", tmp_path / "a.csv", given=names)
    fewer = names.partition("\n")[2]
    with pytest.raises(MetaloomError, match="1 file of the call that was killed is not asked about any more"):
        run(bundle, "-", "--out", tmp_path / "a.csv", given=fewer)
    code, said, _ = run(bundle, "-", "--out", tmp_path / "a.csv", given=fewer)
    assert code == 0 and "a.csv: 8 answers" in said


def test_bad_input_is_one_line(bundle: Path, drawings: Path, tmp_path: Path):
    (tmp_path / "there.csv").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words/a.md").touch()
    cases = {
        "there.csv exists: choose another, or remove it first": [drawings, "--out", tmp_path / "there.csv"],
        "give a file that ends in .csv or .parquet": [drawings, "--out", tmp_path / "a.json"],
        f"there is no folder {tmp_path}/absent": [drawings, "--out", tmp_path / "absent/a.csv"],
        "give one of --json, --csv and --out": [drawings, "--csv", "--out", tmp_path / "a.csv"],
        f"{tmp_path}/empty has no images: give a folder with PNG": [tmp_path / "empty"],
        f"{tmp_path}/words has no images (only {tmp_path}/words/a.md)": [tmp_path / "words"],
    }
    for words, arguments in cases.items():
        with pytest.raises(MetaloomError) as error:
            run(bundle, *arguments)
        assert words in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "there.csv").read_bytes() == b""


def test_names_that_are_no_utf8(bundle: Path, drawings: Path, tmp_path: Path):
    odd = Path(str(drawings / "0") + "/caf\udce9.png")
    odd.write_bytes(in_order_of(drawings)[0].read_bytes())
    for options in ([], ["--json"], ["--csv"], ["--out", tmp_path / "a.csv"], ["--out", tmp_path / "a.parquet"]):
        code, out, _ = run(bundle, odd, *options)
        assert code == 0 and ("--out" in options or "caf\\udce9.png" in out.replace("\\\\", "\\"))
    assert pd.read_parquet(tmp_path / "a.parquet")["example"].tolist() == [str(odd.parent / "caf\\udce9.png")]


def test_a_bundle_in_python_answers_as_predict_does(bundle: Path, drawings: Path):
    files = in_order_of(drawings)
    loaded = metaloom.load_bundle(bundle)
    assert loaded.classes == json.loads((bundle / "labels.json").read_text())
    found = predict(bundle, files)
    opened = [Image.open(file) for file in files]
    for given in (files, opened, [np.asarray(each) for each in opened]):
        assert loaded.predict(given) == [each.label for each in found]
        probabilities = loaded.predict_proba(given)
        for row, each in zip(probabilities, found, strict=True):
            assert dict(zip(loaded.classes, row, strict=True)) == pytest.approx(each.probabilities, abs=1e-5)
        np.testing.assert_allclose(loaded.novelty(given), [each.novelty for each in found], rtol=1e-4)
    assert loaded.predict(files[2]) == [found[2].label]
    with pytest.raises(MetaloomError, match="this bundle is of one task"):
        metaloom.load_bundle(bundle, "other")


def test_standard_input_that_names_no_file_is_said(bundle: Path):
    for given in ("", "\n\n", "\0"):
        done = CliRunner().invoke(app, ["predict", str(bundle), "-"], input=given)
        assert str(done.exception).startswith("standard input names no file: give one per line") and not done.output
