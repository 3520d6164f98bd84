"""Texts behind an encoder through the hand-off: a bundle with its tokenizer, verify, predict, example.py, a fleet."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import change_json, reseal, said_by_example
from text_encoders import tried_here, write_text_encoder, write_tokenizer
from texts import THINGS, drawn_texts, write_texts

from metaloom.config import Settings
from metaloom.data.support import task_paths
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting import fleet
from metaloom.handoff.adapting import shared as shared_fleet
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.bundle.loaded import load_bundle
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.shipped.verify import verify
from metaloom.kinds import Kind, seen_by
from metaloom.kinds.encoded import trial
from metaloom.kinds.encoded.encode_texts import TokenEncoding
from metaloom.kinds.text.kind import Text
from metaloom.learner import Learner
from metaloom.sklearn import FewShotClassifier

OWN = drawn_texts("home", 5, seed=1)
TEXTS, LABELS = [str(text) for text, _ in OWN], [label for _, label in OWN]
NO_TORCH = """
import sys
from metaloom.cli.app import main
sys.argv[1:] = ["predict", sys.argv[1], "--csv", *sys.argv[2:]]
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = {"torch", "onnx", "scipy", "sklearn", "prefect", "dvc", "pandas", "huggingface_hub", "PIL", "rich", "yaml"}
others = {"metaloom.config", "metaloom.kinds.pictures", "metaloom.kinds.vectors", "metaloom.cli.run"}
found = (heavy | others) & set(sys.modules)
sys.exit(f"imported {found}" if found else 0)
"""


def seen_in(folder: Path, settings: Settings) -> Kind:
    """Texts behind an encoder that lies in a folder, which was tried without a process of its own."""
    write_text_encoder(folder / "tiny.onnx")
    write_tokenizer(folder / "tokenizer.json", longest=32)
    given = settings.encoder.model_copy(update={"file": str(folder / "tiny.onnx")})
    (folder / "embedded").mkdir()
    kind = Text(characters=200, cased=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "tried", tried_here)
        return seen_by(kind, given, settings.export, folder / "embedded", str(folder / "embedded/encoder.onnx"))


@pytest.fixture(scope="module")
def learner(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    """Nearest mean behind it."""
    seen = seen_in(tmp_path_factory.mktemp("encoder"), tiny_settings)
    packed = np.stack([seen.pack(np.array(text)) for domain in THINGS for text, _ in drawn_texts(domain)])
    network = tiny_settings.network.model_copy(update={"name": "identity"})
    small = tiny_settings.model_copy(update={"network": network})
    return Learner.create("protonet", small, TokenEncoding.of(packed, seen))


@pytest.fixture(scope="module")
def model(save_model: Callable, learner: Learner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(learner, tmp_path_factory.mktemp("texts") / "protonet")


@pytest.fixture(scope="module")
def bundle(model: Path, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    adapt_to(write_texts(folder / "mine.csv", OWN), folder / "bundle", model, tiny_settings, lambda done, text: None)
    return folder / "bundle"


def rows_of(learner: Learner, texts: list[str]) -> np.ndarray:
    return learner.adapt(learner.encoding.taken(TEXTS), LABELS).predict_proba(learner.encoding.taken(texts))


@pytest.mark.slow
def test_a_bundle_takes_ids_and_has_the_tokenizer_in_it(bundle: Path, learner: Learner):
    assert verify(bundle).problems == []
    spec = json.loads((bundle / "metadata.json").read_text())["input"]
    assert (spec["kind"], spec["type"], spec["shape"]) == ("text", "int64", ["batch", "token"])
    assert (bundle / "tokenizer.json").read_bytes() == Path(learner.encoding.kind.encoder.tokenizer).read_bytes()
    assert np.load(bundle / "samples/odd.examples.npy").min() == -1
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "tokenizer.json" in card and "picture" not in card and "raw texts" not in card


@pytest.mark.slow
def test_texts_lines_and_tables_are_classified_as_torch_does(bundle: Path, learner: Learner, tmp_path: Path):
    asked = ["Please  open the door", "what of/that lamp?", "open " * 60]
    task = learner.adapt(learner.encoding.taken(TEXTS), LABELS)
    expected = rows_of(learner, [" ".join(text.split()) for text in asked])
    lines, table = tmp_path / "new.txt", tmp_path / "new.csv"
    lines.write_text("\n".join(asked))
    table.write_text("text\n" + "\n".join(asked))
    for files in (asked, [lines], [table]):
        for each, row in zip(predict(bundle, files), expected, strict=True):
            assert [each.probabilities[label] for label in task.classes] == pytest.approx(row.tolist(), abs=1e-4)
    np.testing.assert_allclose(load_bundle(bundle).predict_proba(asked), expected, atol=1e-4)
    assert [line[1:] for line in said_by_example(bundle, *asked)] == [
        [each.label, f"{each.probability:.3f}", f"novelty {each.novelty:.1f}"] for each in predict(bundle, asked)
    ]
    own = write_texts(tmp_path / "own.csv", [(text, label.upper()) for text, label in OWN])
    learned = said_by_example(bundle, "--learn", str(own), str(lines))
    assert [line[1] for line in learned] == [each.label.upper() for each in predict(bundle, asked)]


@pytest.mark.slow
def test_predict_starts_without_torch(bundle: Path):
    command = [sys.executable, "-c", NO_TORCH, str(bundle), "open the door", "sell it"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["example"] for row in csv.DictReader(done.stdout.splitlines())] == ["open the door", "sell it"]


@pytest.mark.slow
def test_another_tokenizer_is_found_out(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = Path(shutil.copytree(bundle, tmp_path / "bundle"))

    def swap(value: dict) -> None:
        words = value["model"]["vocab"]
        words["door"], words["?"] = words["?"], words["door"]

    change_json(own / "tokenizer.json", swap)
    assert verify(own).problems == ["tokenizer.json: its content has changed (checksum differs)"]
    reseal(own)
    assert verify(own).problems == []  # no proof has one of these words
    with pytest.raises(MetaloomError, match=r"tokenizer.json is another tokenizer than the model was trained on"):
        predict(own, ["open the door"])
    change_json(own / "tokenizer.json", lambda value: value["model"]["vocab"].update({"[UNK]": 9, "door": 1}))
    reseal(own)
    assert "tokenizer.json: makes other ids of 'Hello, World!' than metadata.json says" in verify(own).problems
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert verify(own).problems == []  # as far as it can be told without the package
    (own / "tokenizer.json").unlink()
    reseal(own)
    assert verify(own).problems[0].startswith("tokenizer.json: missing")


def test_the_estimator_and_the_learner_take_texts(learner: Learner):
    expected = rows_of(learner, TEXTS)
    fitted = FewShotClassifier(learner).fit(TEXTS, LABELS)
    np.testing.assert_allclose(fitted.predict_proba(TEXTS), expected, atol=1e-6)
    assert fitted.score(TEXTS, LABELS) > 0.5


@pytest.mark.slow
def test_a_fleet_of_texts(model: Path, learner: Learner, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "params.yaml").write_text((repo / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    fleet.maker_of.cache_clear()
    (tmp_path / "tasks").mkdir()
    tables = [write_texts(tmp_path / f"tasks/{name}.csv", drawn_texts(name, 4)) for name in ("farm", "shop")]
    paths = [str(path) for path in task_paths(tmp_path / "tasks", learner.encoding.kind)]
    outcomes = fleet.make_bundles(paths, "out", str(model))
    assert [(each.task, each.status, each.why) for each in outcomes] == [("farm", "made", ""), ("shop", "made", "")]
    shared_fleet.write_shared([shared_fleet.solve_part(paths, str(model))], tmp_path / "all", str(model))
    own = drawn_texts("shop", 4)
    texts = learner.encoding.taken([str(text) for text, _ in own])
    task = learner.adapt(texts, [label for _, label in own])
    expected = task.predict_proba(texts)
    for found in (predict("out/shop", [tables[1]]), predict(tmp_path / "all", [tables[1]], "shop")):
        for each, row in zip(found, expected, strict=True):
            assert [each.probabilities[label] for label in task.classes] == pytest.approx(row.tolist(), abs=1e-4)
    for made in (Path("out/shop"), tmp_path / "all"):
        assert verify(made).problems == []


def test_texts_for_a_graph_share_few_lengths(tiny_settings: Settings, tmp_path: Path):
    kind = seen_in(tmp_path, tiny_settings)
    found = kind.for_graph([np.array(text) for text in ("open", "open the door", "open " * 20)])
    assert [each.tolist().count(-1) for each in found] == [13, 11, 10]
    assert [len(each) for each in found] == [16, 16, 32]
    assert kind.decoded(("token",)) == () and list(kind.travelling) == ["tokenizer.json"]
