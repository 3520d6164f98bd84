"""What a run or a stranger left of a model: cut, of another type, full of NaN. One line, and no answer from it."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import change_json, reseal
from safetensors.torch import load_file, save_file
from test_hostile_bundles import without
from trainers import trainer
from typer.testing import CliRunner

from metaloom.cli.app import app
from metaloom.config import Settings
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.contents import Maker
from metaloom.handoff.bundle.inspect import lines
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.bundle.stranger import usable
from metaloom.handoff.graphs import onnxfile
from metaloom.handoff.metadata import read_metadata
from metaloom.handoff.shipped import verify as shipped
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds import Encoder, kind_from
from metaloom.learner import Learner, champion
from metaloom.stages import embed
from metaloom.system.files import read_sealed, write_sealed
from metaloom.training import checkpoint
from metaloom.versioning.of_run import check_of_run

GONE = object()
FEW = (GONE, "x", [], True, float("nan"), 10**400)
VALUES = (GONE, None, "x", [], {}, [[1]], True, -1, 0, 1.5, float("nan"), 10**400, 2**40)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to each value in JSON; of a list to its first."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def put(value: Any, path: tuple, other: Any) -> Any:
    """The same JSON with another value there."""
    if not path:
        return None if other is GONE else other
    changed = copy.deepcopy(value)
    node = changed
    for key in path[:-1]:
        node = node[key]
    if other is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = other
    return changed


@pytest.mark.slow
def test_every_value_of_a_learner_json_is_refused_or_works(model: Path, tmp_path: Path, pictures: np.ndarray):
    folder = Path(shutil.copytree(model, tmp_path / "protonet"))
    whole = json.loads((folder / "learner.json").read_text())
    tried = 0
    for path in places(whole):
        if path[:1] == ("seed",):
            continue
        for value in VALUES:
            (folder / "learner.json").write_text(json.dumps(put(whole, path, value)))
            try:
                learner = Learner.load(folder)
            except MetaloomError as error:
                assert "\n" not in str(error) and "learner.json" in str(error), (path, value)
                continue
            if path[:1] not in (("input",), ("temperature",)):
                continue
            try:
                answers = learner.adapt(pictures[:8:2], [0, 0, 1, 1]).predict_proba(pictures[:2])
            except MetaloomError as error:  # another size of pictures is a legal one
                assert "this learner takes uint8" in str(error), (path, value)
                continue
            assert np.isfinite(answers).all(), (path, value)
            tried += 1
    assert tried


WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "NaN": (lambda path: changed(path, lambda v: v * float("nan")), "holds NaN or an infinity in "),
    "infinite": (lambda path: changed(path, lambda v: v / 0), "holds NaN or an infinity in "),
    "half": (lambda path: changed(path, torch.Tensor.half), "as float16: train again"),
    "whole numbers": (lambda path: changed(path, torch.Tensor.long), "as int64: train again"),
    "flat": (lambda path: changed(path, torch.Tensor.flatten), "of another network"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
}


def changed(path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    save_file({name: change(value).contiguous() for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none_are_refused(model: Path, tmp_path: Path, name: str):
    folder = Path(shutil.copytree(model, tmp_path / "protonet"))
    change, words = WEIGHTS[name]
    change(folder / "model.safetensors")
    with pytest.raises(MetaloomError, match=words) as error:
        Learner.load(folder)
    assert "\n" not in str(error.value) and "model.safetensors" in str(error.value)


METRICS = ["[1]", "{", "{}", *(f'{{"validation": {each}}}' for each in ("1", '{"accuracy": "x"}', '{"accuracy": NaN}'))]


@pytest.mark.parametrize("content", METRICS)
def test_a_metrics_json_that_is_none_is_one_line(model: Path, tmp_path: Path, settings: Settings, content: str):
    folder = Path(shutil.copytree(model, tmp_path / "protonet"))
    (folder / "metrics.json").write_text(content)
    for ask in (lambda: champion(tmp_path, ["protonet"]), lambda: Maker.open(folder, settings)):
        with pytest.raises(MetaloomError, match=r"metrics\.json") as error:
            ask()
        assert "\n" not in str(error.value)


TEXT = {"kind": "text", "characters": 64, "grams": ["ab", "abc"], "idf": [1.0, 2.0]}
VECTORS = {"kind": "vectors", "columns": ["a", "b"], "shift": [0.0, 1.0], "scale": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("saved", "key", "value"),
    [(TEXT, "grams", value) for value in ([], ["ab"], ["ab", "ab"], ["ab", 1], ["ab", "x"], "abab", None)]
    + [(TEXT, "idf", value) for value in ([1.0], [1.0, "x"], [1.0, None], [1.0, 10**400], [1.0, float("nan")], {})]
    + [(TEXT, "characters", value) for value in (-1, 1, 2**40, "many")]
    + [(VECTORS, "shift", value) for value in ([0.0], [0.0, float("inf")], [0.0, True], "ab")]
    + [(VECTORS, "scale", value) for value in ([1.0], [1.0, 0], [1.0, -2.0], None)],
)
def test_fitted_numbers_of_texts_and_vectors_fit_each_other(saved: dict, key: str, value: Any):
    assert kind_from(saved).encoding(saved).numbers()
    other = saved | {key: value}
    with pytest.raises((ValueError, MetaloomError), match=f"{key}|idf holds"):  # one value for each of the grams
        kind_from(other, "learner.json", "train again").encoding(other)


def test_a_flipped_byte_in_a_checkpoint_is_found(tiny_settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = trainer("protonet", tiny_settings, tmp_path)
    checkpoint.save(made._begun(), made.checkpoint, made.fingerprint)
    assert checkpoint.read(made.checkpoint, made.fingerprint) is not None
    whole = made.checkpoint.read_bytes()
    for data in (whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole[:-1], b"", bytes(len(whole))):
        made.checkpoint.write_bytes(data)
        assert checkpoint.read(made.checkpoint, made.fingerprint) is None
        assert capsys.readouterr().out == f"{made.checkpoint} is damaged: training starts again\n"
    made.checkpoint.unlink()
    assert checkpoint.read(made.checkpoint, made.fingerprint) is None and capsys.readouterr().out == ""
    made.checkpoint.mkdir()
    with pytest.raises(MetaloomError, match="cannot be read .*: remove it"):
        checkpoint.read(made.checkpoint, made.fingerprint)


def test_what_is_kept_for_later_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings):
    path = tmp_path / "part"
    assert read_sealed(path) is None
    write_sealed(path, b"abc")
    assert read_sealed(path) == b"abc"
    for data in (b"", b"x", path.read_bytes()[:-1], b"abd" + path.read_bytes()[3:]):
        path.write_bytes(data)
        assert read_sealed(path) is None
    monkeypatch.setattr(onnxfile, "GRAPHS", tmp_path / "graphs")
    made: list[int] = []
    made_of = {"a": 1}
    model = onnxfile.onnx.ModelProto(ir_version=9)
    for _ in range(2):
        onnxfile.kept("k", made_of, settings.export, lambda: made.append(1) or model)
    (graph,) = (tmp_path / "graphs").iterdir()
    graph.write_bytes(graph.read_bytes()[:-1])
    assert len(made) == 1 and onnxfile.kept("k", made_of, settings.export, lambda: made.append(1) or model)
    assert len(made) == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"done": "x"}', '{"done": 3}', "[" * 100_000])
def test_embeddings_that_cannot_go_on_start_again(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embed, "_state", lambda packed, encoder, done: {"done": done})

    packed = object.__new__(Dataset)
    object.__setattr__(packed, "items", [1, 2, 3])
    np.save(tmp_path / "examples.npy", np.zeros((2, 4), np.float32))  # of two examples, where there are three
    (tmp_path / "done.json").write_text(content)
    rows, done = embed._begun(tmp_path, packed, Encoder("encoder.onnx", "", "own", 4))
    assert (rows.shape, done) == ((3, 4), 0)


@pytest.mark.parametrize("content", ["- 1", "stages: 3", "stages: {a: {outs: [{}]}}", "schema: 2020-99-99", "[" * 5000])
def test_a_dvc_lock_that_is_none_is_one_line(repo: Path, tmp_path: Path, content: str):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "dvc.lock").write_text(content)
    with pytest.raises(MetaloomError, match=r"dvc\.lock") as error:
        check_of_run(tmp_path / "model")
    assert "\n" not in str(error.value)


# --- bundles whose checksums fit the damage


@pytest.mark.slow
def test_every_value_of_a_bundles_json_is_refused_or_read(bundle: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch):
    """By what verify, inspect and predict read; a session is opened once."""
    plain, opened = shipped.onnxruntime.InferenceSession, {}

    def session(data: bytes, *rest: Any, **options: Any) -> Any:
        if data not in opened:
            opened[data] = plain(data, *rest, **options)
        return opened[data]

    monkeypatch.setattr(shipped.onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(shipped, "check_files", lambda folder: [])
    picture = shapes / "domain0/class0/0.png"

    def ask(of_input: bool) -> None:
        if of_input:
            predict(bundle, [picture])
        else:
            list(lines(bundle, read_metadata(usable(bundle, []).metadata), ["a"]))

    for name in ("metadata.json", "labels.json"):
        whole = json.loads((bundle / name).read_text())
        for path in places(whole):
            if path[:1] in (("params",), ("learner",), ("libraries",)) and len(path) > 1:
                continue
            for value in FEW:
                (bundle / name).write_text(json.dumps(put(whole, path, value)))
                problems = usable_problems(bundle)
                assert all("\n" not in each and len(each) < 300 for each in problems), (path, value)
                try:
                    ask(path[:1] == ("input",))
                except MetaloomError as error:
                    assert "\n" not in str(error), (path, value)
        (bundle / name).write_text(json.dumps(whole))


def usable_problems(bundle: Path) -> list[str]:
    return shipped.open_bundle(bundle, [])[1]


FALSE = {
    "classes": (lambda v: v["task"].update(n_way=5), "metadata.json: task.n_way is 5, labels.json has 4 classes"),
    "size": (
        lambda v: v["graphs"]["adapt.onnx"].update(bytes=1),
        "metadata.json: graphs.adapt.onnx.bytes is 1, the file",
    ),
    "NaN": (
        lambda v: v["metrics"]["task"].update(accuracy=float("nan")),
        "metadata.json: no valid JSON (NaN is no number)",
    ),
    "a long value": (lambda v: v["graphs"]["model.onnx"].update(tolerance="x" * 9999), "tolerance is 'xxxx"),
}


@pytest.mark.parametrize("name", FALSE)
def test_what_metadata_says_of_the_other_files_is_checked(bundle: Path, name: str):
    change, words = FALSE[name]
    change_json(bundle / "metadata.json", change)
    reseal(bundle)
    (problem,) = verify(bundle, with_onnx=False).problems
    assert words in problem and len(problem) < 200


def test_a_number_beyond_all_is_no_json(bundle: Path):
    path = bundle / "metadata.json"
    path.write_text(path.read_text().replace('"max_ways": 20', '"max_ways": 1e999'))
    reseal(bundle)
    assert verify(bundle, with_onnx=False).problems == ["metadata.json: no valid JSON (1e999 is no number)"]


@pytest.mark.parametrize("keys", [("method",), ("provenance",), ("provenance", "model_sha256")], ids=".".join)
def test_bench_of_incomplete_metadata_is_one_line(bundle: Path, model: Path, keys: tuple[str, ...]):
    change_json(bundle / "metadata.json", without(*keys))
    reseal(bundle)
    done = CliRunner().invoke(app, ["bench", "--seconds", "0.05", "--model", str(model), str(bundle)])
    assert isinstance(done.exception, MetaloomError) and "metadata.json is damaged" in str(done.exception)


@pytest.mark.parametrize("command", ["predict", "inspect", "bench", "verify"])
@pytest.mark.parametrize("name", ["model.onnx", "SHA256SUMS"])
def test_a_pipe_in_the_place_of_a_file_is_no_wait(bundle: Path, shapes: Path, command: str, name: str):
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    if command == "verify":
        said = verify(bundle).problems[0]
    else:
        files = [str(shapes / "domain0/class0/0.png")] if command == "predict" else []
        said = str(CliRunner().invoke(app, [command, str(bundle), *files]).exception)
    assert ("neither a file nor a folder, where a file" if name == "model.onnx" else "it has no SHA256SUMS") in said
