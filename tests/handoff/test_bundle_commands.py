"""example.py, `metaloom predict --csv`, `inspect` and `bench`, and `adapt --method`."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import said_by_example
from PIL import Image

from metaloom.cli import adapt
from metaloom.cli import bundle as commands
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.bench import measure, printed
from metaloom.handoff.bundle.predict import Prediction, predict
from metaloom.handoff.metadata import read_metadata
from metaloom.kinds.pictures.kind import Pictures


def test_the_example_classifies(bundle: Path, shapes: Path, tmp_path: Path):
    clear = np.dstack([np.zeros((40, 70, 3), np.uint8), np.zeros((40, 70), np.uint8)])  # invisible black
    Image.fromarray(clear).save(tmp_path / "clear.png")
    clear[..., :3], clear[10:20, 10:60, 3] = 250, 200  # a light shape
    Image.fromarray(clear).save(tmp_path / "light.png")
    files = [*sorted((shapes / "domain0").rglob("*.png"))[::9], tmp_path / "clear.png", tmp_path / "light.png"]
    for line, expected in zip(said_by_example(bundle, *map(str, files)), predict(bundle, files), strict=True):
        wanted = [expected.example, expected.label, f"{expected.probability:.3f}", f"novelty {expected.novelty:.1f}"]
        assert line == wanted


def test_the_example_learns_other_classes(bundle: Path, shapes: Path):
    """Classes of another domain; it is right where torch is."""
    from metaloom.data.support import read_support

    folder = shapes / "domain5"
    support = read_support(folder, Pictures(28, 1), (28, 28, 1))
    files = sorted(folder.rglob("*.png"))
    lines = said_by_example(bundle, "--learn", str(folder), *map(str, files))
    assert {line[1] for line in lines} <= set(support.labels) and len(lines) == len(files)
    right = [line[1] == file.parent.name for line, file in zip(lines, files, strict=True)]
    assert np.mean(right) > 0.6  # it has learned from these very pictures


def test_a_table_of_predictions(bundle: Path, shapes: Path, capsys: pytest.CaptureFixture[str]):
    files = sorted((shapes / "domain0").rglob("*.png"))[::9]
    commands.predict(bundle, list(map(str, files)), csv=True)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for row, expected in zip(rows, predict(bundle, files), strict=True):
        assert (row["example"], row["label"]) == (expected.example, expected.label)
        assert float(row["novelty"]) == expected.novelty
        assert {f"p({name})": p for name, p in expected.probabilities.items()} == {
            name: float(value) for name, value in row.items() if name.startswith("p(")
        }
    with pytest.raises(MetaloomError, match="give one of --json, --csv and --out"):
        commands.predict(bundle, list(map(str, files)), csv=True, json_=True)
    with pytest.raises(MetaloomError, match="is of one task: leave out --task"):
        commands.predict(bundle, list(map(str, files)), task="domain0")


def test_inspect_says_what_it_is(bundle: Path, capsys: pytest.CaptureFixture[str]):
    commands.inspect(bundle)
    shown = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert shown["task"] == "domain0, 4 classes from 32 labelled examples"
    assert shown["classes"] == "class0, class1, class2, class3" and shown["learner"] == "protonet over conv4-8"
    assert "support examples, cross-validated (95% interval" in shown["accuracy"] and "estimate" not in shown
    assert shown["adapt.onnx"].endswith("within 1e-04 of torch") and "files" in shown["size"]
    (bundle / "labels.json").write_text("[]")
    with pytest.raises(MetaloomError, match="its content has changed.*; get a whole copy$"):
        commands.inspect(bundle)


def test_low_probabilities_are_explained_beside_the_answers(capsys: pytest.CaptureFixture[str]):
    low, high = Prediction("1.png", {"cat": 0.4, "dog": 0.35}, 1.0), Prediction("2.png", {"dog": 0.9, "cat": 0.1}, 1.0)
    commands._print_lines([low, high])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err.startswith("1 of 2 answers under 50%: a probability says how often") and "temperature" in err
    commands._print_lines([high])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["absent", "nobundle"])
def test_what_is_no_bundle_is_said_once(name: str, tmp_path: Path):
    (tmp_path / "nobundle").mkdir()
    with pytest.raises(MetaloomError) as refused:
        commands.inspect(tmp_path / name)
    message = str(refused.value)
    assert message.count(str(tmp_path)) == 1 and message.count("no bundle") == 1 and "whole copy" not in message


def test_metadata_is_read_as_it_was_written(bundle: Path):
    written = json.loads((bundle / "metadata.json").read_text())
    assert read_metadata(written).plain() == written
    for change, words in (
        ({"max_ways": "many"}, "max_ways: Input should be a valid integer"),
        ({"comment": "mine"}, "comment: Extra inputs are not permitted"),
        ({"task": {"name": "x"}}, "task.n_way: Field required"),
    ):
        with pytest.raises(MetaloomError, match=f"metadata.json is damaged: {words}"):
            read_metadata(written | change)


@pytest.mark.slow
def test_bench_asks_both_runtimes_in_turns(bundle: Path, model: Path, tmp_path: Path):
    rows = measure(bundle, model, seconds=0.02)
    asked = {(row.what, row.runtime, row.batch) for row in rows}
    assert {(what, runtime) for what, runtime, _ in asked} == {
        (graph, runtime) for graph in ("model.onnx", "adapt.onnx") for runtime in ("onnxruntime", "torch")
    }
    assert {batch for what, _, batch in asked if what == "model.onnx"} == {1, 8, 64}
    assert all(len(row.milliseconds) >= 20 and (row.milliseconds > 0).all() for row in rows)
    text = printed(rows).splitlines()
    assert text[0].split()[:5] == ["graph", "runtime", "threads", "batch", "p50"] and len(text) == 1 + len(rows)
    without = measure(bundle, tmp_path, seconds=0.02)
    assert {row.runtime for row in without} == {"onnxruntime"}
    assert "without torch: the meta-learner that made the bundle is not at hand" in printed(without)


def test_adapt_takes_the_method_that_is_asked_for(
    model: Path, shapes: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(model, tmp_path / "artifacts/models/maml")
    shutil.copytree(model, tmp_path / "artifacts/models/protonet")
    params = (repo / "params.yaml").read_text().replace("page: auto", "page: false")
    (tmp_path / "params.yaml").write_text(params)
    shutil.copy(repo / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts/models/maml/metrics.json").write_text(
        json.dumps({"validation": {"setting": "3w1s", "accuracy": 0.1, "ci95": 0.1, "nll": 1.5, "episodes": 12}})
    )
    adapt.adapt(shapes / "domain1", tmp_path / "out", method="maml")
    assert json.loads(Path("out/metadata.json").read_text())["metrics"]["validation"]["accuracy"] == 0.1
    with pytest.raises(MetaloomError, match="no meta-learner 'anil': there are maml, protonet"):
        adapt.adapt(shapes / "domain1", tmp_path / "other", method="anil")
    with pytest.raises(MetaloomError, match="--method or --model, not both"):
        adapt.adapt(shapes / "domain1", tmp_path / "other", method="maml", model=model)
    shutil.rmtree("artifacts")
    with pytest.raises(MetaloomError, match="`metaloom run` trains them"):
        adapt.adapt(shapes / "domain1", tmp_path / "other", method="maml")
