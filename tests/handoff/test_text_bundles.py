"""Texts through the hand-off: graphs that take strings beside torch, bundles, verify, predict, adapt, the estimator."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundles import change_json, change_model, reseal, said_by_example
from texts import THINGS, drawn_texts, write_texts

from metaloom.cli import bundle as commands
from metaloom.config import Settings
from metaloom.data.support import task_paths
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting import fleet
from metaloom.handoff.adapting import shared as shared_fleet
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.shipped.verify import HEAD, verify
from metaloom.kinds.text.encode import TextEncoding
from metaloom.kinds.text.kind import Text
from metaloom.learner import Learner
from metaloom.sklearn import FewShotClassifier

KIND = Text(features=60, characters=64)
OWN = drawn_texts("home", 5, seed=1)
TEXTS, LABELS = [text for text, _ in OWN], [label for _, label in OWN]
ODD = ["", "  ", "Über die ÉTÜDE", "open\tthe\r\n door", "🙂 door 🙂", "e\u0301 é", "日本語", "the door " * 40]
NO_TORCH = """
import sys
from pathlib import Path
from metaloom.cli.bundle import predict
predict(Path(sys.argv[1]), sys.argv[2:], csv=True)
heavy = {"torch", "onnx", "scipy", "sklearn", "prefect", "dvc", "pandas"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def packed(texts: list[str]) -> np.ndarray:
    return np.stack([KIND.pack(np.array(text)) for text in texts])


def learner_of(name: str, network: str, settings: Settings) -> Learner:
    """Random weights over a small network, but the encoding of some texts."""
    rows = packed([text for domain in THINGS for text, _ in drawn_texts(domain)])
    small = settings.network.model_copy(update={"name": network, "width": 8})
    learner = Learner.create(name, settings.model_copy(update={"network": small}), TextEncoding.of(rows, KIND))
    if not learner.method.frozen:
        return learner
    _, statistics = learner.method.network(learner.params.weights, learner.encoding(torch.as_tensor(rows)))
    return replace(learner, params=replace(learner.params, statistics=learner.params.statistics | statistics))


@pytest.fixture(scope="module")
def model(save_model: Callable, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    learner = learner_of("protonet", "linear", tiny_settings)
    return save_model(learner, tmp_path_factory.mktemp("texts") / "protonet")


@pytest.fixture(scope="module")
def bundle(model: Path, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    support = write_texts(folder / "mine.csv", OWN)
    adapt_to(support, folder / "bundle", model, tiny_settings, lambda done, text: None)
    return folder / "bundle"


@pytest.mark.parametrize(
    "name, network",
    [
        ("protonet", "linear"),
        pytest.param("protonet", "mlp", marks=pytest.mark.slow),
        pytest.param("maml", "linear", marks=pytest.mark.slow),
    ],
)
def test_graphs_of_strings_answer_as_torch_does(name: str, network: str, tiny_settings: Settings):
    learner, export = learner_of(name, network, tiny_settings), tiny_settings.export
    support, query = np.array(TEXTS), np.array([*ODD, *(text for text, _ in drawn_texts("shop", 10))][:64])
    ways = np.unique(LABELS, return_inverse=True)[1]
    task = learner.adapt(packed(TEXTS), ways)
    expected = task.predict_proba(packed(query.tolist()))
    model = onnxruntime.InferenceSession(to_onnx(task, novelty_of(task, packed(TEXTS), ways), export, {}))
    for batch in (1, 2, 64):
        found = np.asarray(model.run(["probabilities"], {"examples": query[:batch]})[0])
        np.testing.assert_allclose(found, expected[:batch], atol=1e-5, rtol=0)
    graphs = {n: onnxruntime.InferenceSession(d) for n, d in learning_graphs(learner, export, {}).items()}
    learned = {"support_x": support, "support_y": ways}
    found = np.asarray(graphs["adapt.onnx"].run(["probabilities"], {**learned, "query_x": query})[0])
    np.testing.assert_allclose(found[:, :6], expected, atol=2e-4 if name == "maml" else 1e-5, rtol=0)
    if learner.method.frozen:
        head = graphs["learn.onnx"].run(HEAD, learned)
        asked = {"examples": query, **dict(zip(HEAD, head, strict=True))}
        again = np.asarray(graphs["classify.onnx"].run(["probabilities"], asked)[0])
        np.testing.assert_allclose(again[:, :6], expected, atol=1e-5, rtol=0)


def test_a_bundle_says_that_texts_go_in_and_verifies(bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert verify(bundle).problems == []
    spec = json.loads((bundle / "metadata.json").read_text())["input"]
    assert (spec["kind"], spec["type"], spec["shape"]) == ("text", "str_", ["batch"])
    assert {path.name.split(".")[0] for path in (bundle / "samples").glob("*.examples.npy")} == {
        "examples", "single", "spaces", "odd"
    }  # fmt: skip
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "takes raw texts" in card and "image" not in card and "picture" not in card
    commands.inspect(bundle)
    assert "text: texts as they are (UTF-8), of which the first 64 characters count" in capsys.readouterr().out


def test_no_operator_beside_the_tokenizer_is_let_in(bundle: Path, tmp_path: Path):
    own = Path(shutil.copytree(bundle, tmp_path / "bundle"))

    def other(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Tokenizer").op_type = "StringConcat"

    change_model(own, other)
    reseal(own)
    assert verify(own).problems == ["model.onnx: operator StringConcat is of 'com.microsoft', not of ONNX"]
    again = Path(shutil.copytree(bundle, tmp_path / "numbers"))
    change_json(again / "metadata.json", lambda value: value["input"].update(type="float32"))
    reseal(again)
    assert "model.onnx: needs operators of 'com.microsoft'" in verify(again).problems


def test_texts_lines_and_tables_are_classified(bundle: Path, tiny_settings: Settings, tmp_path: Path):
    learner = learner_of("protonet", "linear", tiny_settings)
    asked = ["Please  open the door", "what of/that lamp?"]
    task = learner.adapt(packed(TEXTS), LABELS)
    expected = task.predict_proba(packed(["Please open the door", asked[1]]))
    lines, table = tmp_path / "new.txt", tmp_path / "new.csv"
    lines.write_text("\ufeffPlease open the door\n\n what of/that lamp?\n", encoding="utf-8")
    table.write_text("id,text\n1,Please open the door\n2,what of/that lamp?\n")
    for files, names in (
        (asked, asked),
        ([lines], [f"{lines}#1", f"{lines}#3"]),
        ([table], [f"{table}#1", f"{table}#2"]),
    ):
        found = predict(bundle, files)
        assert [each.example for each in found] == names
        for each, row in zip(found, expected, strict=True):
            assert [each.probabilities[label] for label in task.classes] == pytest.approx(row.tolist(), abs=1e-5)
    assert [line[1:] for line in said_by_example(bundle, *asked)] == [
        [each.label, f"{each.probability:.3f}", f"novelty {each.novelty:.1f}"] for each in predict(bundle, asked)
    ]


def test_the_example_learns(bundle: Path, tmp_path: Path):
    rows = [(text, label.upper()) for text, label in OWN]
    rows[0] = (f"{rows[0][0]} {'語' * 200_000}", rows[0][1])  # no n-gram of training, in a cell that csv finds too long
    own = write_texts(tmp_path / "own.csv", rows)
    (tmp_path / "asked.txt").write_text("\n".join(TEXTS[:3]))
    learned = said_by_example(bundle, "--learn", str(own), str(tmp_path / "asked.txt"))
    assert [line[1] for line in learned] == [each.label.upper() for each in predict(bundle, TEXTS[:3])]


def test_bad_texts_are_refused_by_name(bundle: Path, tmp_path: Path):
    for name, content, said in (
        ("a.csv", b"name,x\na,1\n", r"a.csv has no column of texts, only name, x"),
        ("b.csv", b"text,x\n,1\n", r"b.csv#1 is empty"),
        ("c.txt", "ü".encode("latin-1"), r"c.txt is no UTF-8 \(byte 0\)"),
        ("d.txt", b"a\0b", r"d.txt#1 has a NUL character: remove it"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MetaloomError, match=said):
            predict(bundle, [tmp_path / name])
    with pytest.raises(MetaloomError, match=r"absent.csv: there is no such file"):
        predict(bundle, ["absent.csv"])
    with pytest.raises(MetaloomError, match=r"is empty: write a text"):
        predict(bundle, [" "])


def test_predict_starts_without_torch(bundle: Path):
    command = [sys.executable, "-c", NO_TORCH, str(bundle), "open the door", "sell it"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["example"] for row in csv.DictReader(done.stdout.splitlines())] == ["open the door", "sell it"]


def test_the_estimator_takes_texts(tiny_settings: Settings):
    learner = learner_of("protonet", "linear", tiny_settings)
    fitted = FewShotClassifier(learner).fit(TEXTS, LABELS)
    expected = learner.adapt(packed(TEXTS), LABELS).predict_proba(packed(TEXTS))
    np.testing.assert_allclose(fitted.predict_proba(TEXTS), expected, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(np.array(TEXTS)), fitted.predict(packed(TEXTS)))


@pytest.mark.slow
def test_a_fleet_of_texts(
    model: Path, tiny_settings: Settings, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A bundle for each table, and one of all; their golden samples are texts."""
    (tmp_path / "params.yaml").write_text((repo / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    fleet.maker_of.cache_clear()
    (tmp_path / "tasks").mkdir()
    tables = [write_texts(tmp_path / f"tasks/{name}.csv", drawn_texts(name, 4)) for name in ("farm", "shop")]
    paths = [str(path) for path in task_paths(tmp_path / "tasks", KIND)]
    outcomes = fleet.make_bundles(paths, "out", str(model))
    assert [(each.task, each.status, each.why) for each in outcomes] == [("farm", "made", ""), ("shop", "made", "")]
    shared_fleet.write_shared([shared_fleet.solve_part(paths, str(model))], tmp_path / "all", str(model))
    own = drawn_texts("shop", 4)
    task = learner_of("protonet", "linear", tiny_settings).adapt(packed([text for text, _ in own]), [c for _, c in own])
    expected = task.predict_proba(packed([text for text, _ in own]))
    for found in (predict("out/shop", [tables[1]]), predict(tmp_path / "all", [tables[1]], "shop")):
        for each, row in zip(found, expected, strict=True):
            assert [each.probabilities[label] for label in task.classes] == pytest.approx(row.tolist(), abs=1e-5)
    for bundle in (Path("out/shop"), tmp_path / "all"):
        assert verify(bundle).problems == []
        assert np.load(bundle / "samples/examples.examples.npy").dtype.kind == "U"
