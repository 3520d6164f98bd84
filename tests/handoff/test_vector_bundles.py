"""Rows of numbers through the hand-off: graphs beside torch, bundles, verify, predict, adapt and fleets."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from bundles import said_by_example

from metaloom.cli import bundle as commands
from metaloom.config import Settings
from metaloom.data.support import read_support, task_paths
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting import fleet
from metaloom.handoff.adapting.one import adapt_to
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import novelty_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.shipped.verify import HEAD, verify
from metaloom.kinds.vectors.encode import VectorEncoding
from metaloom.kinds.vectors.kind import Vectors
from metaloom.learner import Learner

CLASSES, EXAMPLES = 6, 8
NO_TORCH = """
import sys
from pathlib import Path
from metaloom.cli.bundle import predict
predict(Path(sys.argv[1]), [Path(sys.argv[2])], csv=True)
heavy = {"torch", "onnx", "scipy", "sklearn", "prefect", "dvc"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def drawn(features: int, classes: int = CLASSES, seed: int = 0) -> np.ndarray:
    """(class * example, feature): each class a cloud around a place of its own, features of unlike sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 3, (classes, 1, features))
    rows = centres + rng.normal(0, 1, (classes, EXAMPLES, features))
    return (rows * 10.0 ** rng.integers(-2, 3, features) + 5).reshape(-1, features).astype(np.float32)


def learner_of(name: str, rows: np.ndarray, settings: Settings) -> Learner:
    """Random weights over a small network, but the encoding of these rows."""
    network = settings.network.model_copy(update={"name": "mlp", "width": 8})
    encoding = VectorEncoding.of(rows, Vectors(columns=names_of(rows.shape[1])))
    learner = Learner.create(name, settings.model_copy(update={"network": network}), encoding)
    if not learner.method.frozen:
        return learner
    _, statistics = learner.method.network(learner.params.weights, learner.encoding(torch.as_tensor(rows)))
    return replace(learner, params=replace(learner.params, statistics=learner.params.statistics | statistics))


def names_of(features: int) -> tuple[str, ...]:
    return tuple(f"x{place}" for place in range(features))


def write_table(path: Path, rows: np.ndarray, labels: list[str] | None = None, turned: bool = False) -> Path:
    """A CSV table; `turned`: its columns stand in the opposite order."""
    names = names_of(rows.shape[1])
    if turned:
        names, rows = names[::-1], rows[:, ::-1]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, *(["class"] if labels else [])])
        for place, row in enumerate(rows):
            table.writerow([*(repr(float(value)) for value in row), *([labels[place]] if labels else [])])
    return path


def labels_of(classes: int = CLASSES) -> list[str]:
    return [f"class{way}" for way in range(classes) for _ in range(EXAMPLES)]


@pytest.fixture(scope="module")
def model(save_model: Callable, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(learner_of("protonet", drawn(5), tiny_settings), tmp_path_factory.mktemp("vectors") / "protonet")


@pytest.fixture(scope="module")
def bundle(model: Path, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    support = write_table(folder / "mine.csv", drawn(5), labels_of())
    adapt_to(support, folder / "bundle", model, tiny_settings, lambda done, text: None, name="nuts & bolts")
    return folder / "bundle"


@pytest.mark.parametrize(
    "name, features",
    [("protonet", 5), *(pytest.param(*each, marks=pytest.mark.slow) for each in (("maml", 13), ("ridge", 1)))],
)
def test_graphs_answer_as_torch_does(name: str, features: int, tiny_settings: Settings):
    """13 rows are also what the graphs are traced with, 1 feature what an axis is folded for."""
    rows, ways = drawn(features), np.arange(CLASSES).repeat(EXAMPLES)
    learner, export = learner_of(name, rows, tiny_settings), tiny_settings.export
    support, labels, query = rows[::2], ways[::2], rows[1::2]
    task = learner.adapt(support, labels)
    model = onnxruntime.InferenceSession(to_onnx(task, novelty_of(task, support, labels), export, {}))
    for batch in (1, 2, len(query)):
        found, novelty = (np.asarray(each) for each in model.run(None, {"examples": query[:batch]}))
        np.testing.assert_allclose(found, task.predict_proba(query[:batch]), atol=1e-5, rtol=0)
        assert novelty.shape == (batch,)
    graphs = {n: onnxruntime.InferenceSession(d) for n, d in learning_graphs(learner, export, {}).items()}
    for count in (3, CLASSES):
        some, own = support[labels < count], labels[labels < count]
        expected = learner.adapt(some, own).predict_proba(query)
        inputs = {"support_x": some, "support_y": own, "query_x": query}
        found = np.asarray(graphs["adapt.onnx"].run(["probabilities"], inputs)[0])
        np.testing.assert_allclose(found[:, :count], expected, atol=2e-4 if name == "maml" else 1e-5, rtol=0)
        if learner.method.frozen:
            head = graphs["learn.onnx"].run(HEAD, {"support_x": some, "support_y": own})
            asked = {"examples": query, **dict(zip(HEAD, head, strict=True))}
            again = np.asarray(graphs["classify.onnx"].run(["probabilities"], asked)[0])
            np.testing.assert_allclose(again[:, :count], expected, atol=1e-5, rtol=0)


def test_a_bundle_says_what_goes_in_and_verifies(bundle: Path):
    assert verify(bundle).problems == []
    spec = json.loads((bundle / "metadata.json").read_text())["input"]
    assert (spec["kind"], spec["name"], spec["type"], spec["shape"]) == ("vectors", "examples", "float32", ["batch", 5])
    assert {path.name for path in (bundle / "samples").glob("*.examples.npy")} == {
        "examples.examples.npy", "single.examples.npy", "far.examples.npy"
    }  # fmt: skip
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "takes raw rows" in card and "rows of 5 numbers" in card and "image" not in card and "picture" not in card
    assert not (bundle / "index.html").exists()


def test_another_input_than_the_graph_s_is_found(bundle: Path, tmp_path: Path):
    import shutil

    from bundles import change_json, reseal

    own = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    change_json(own / "metadata.json", lambda v: v["input"].update(shape=["batch", 6]))
    reseal(own)
    (problem,) = verify(own).problems
    assert "its input is examples tensor(float) [any, 5], not examples tensor(float) [any, 6]" in problem


def test_predictions_of_every_row(bundle: Path, tiny_settings: Settings, tmp_path: Path):
    rows = drawn(5)
    table = write_table(tmp_path / "new.csv", rows[:9])
    task = learner_of("protonet", rows, tiny_settings).adapt(rows, labels_of())
    expected = task.predict_proba(rows[:9])
    found = predict(bundle, [table])
    assert [each.example for each in found] == [f"{table}#{place}" for place in range(1, 10)]
    for each, row in zip(found, expected, strict=True):
        assert [each.probabilities[label] for label in task.classes] == pytest.approx(row.tolist(), abs=1e-5)


def test_a_table_of_another_width_is_refused(bundle: Path, tmp_path: Path):
    wide = write_table(tmp_path / "wide.csv", drawn(6)[:2])
    with pytest.raises(MetaloomError, match=r"wide.csv has other columns than .*: x5 is new; give it the"):
        predict(bundle, [wide])
    write_table(tmp_path / "none.csv", drawn(5)[:0])
    with pytest.raises(MetaloomError, match=r"none.csv has no rows"):
        predict(bundle, [tmp_path / "none.csv"])
    (tmp_path / "holes.csv").write_text("x0,x1,x2,x3,x4\n1,2,3,4,5\n1,2,,4,5\n")
    with pytest.raises(MetaloomError, match=r"holes.csv#2 has a number that is missing or infinite"):
        predict(bundle, [tmp_path / "holes.csv"])
    bad: list[MetaloomError] = []
    assert [each.example[-6:] for each in predict(bundle, [tmp_path / "holes.csv"], on_bad=bad.append)] == [".csv#1"]
    assert "holes.csv#2 has a number that is missing" in str(bad[0]) and len(bad) == 1


def test_tables_in_another_order_are_the_same_tables(
    bundle: Path, model: Path, tiny_settings: Settings, tmp_path: Path
):
    rows = drawn(5)
    usual, turned = (write_table(tmp_path / f"{turn}.csv", rows[:9], turned=turn) for turn in (False, True))
    expected = [each.probabilities for each in predict(bundle, [usual])]
    assert [each.probabilities for each in predict(bundle, [turned])] == expected
    support = write_table(tmp_path / "mine.csv", rows, labels_of(), turned=True)
    adapt_to(support, tmp_path / "bundle", model, tiny_settings, lambda done, text: None)
    assert [each.probabilities for each in predict(tmp_path / "bundle", [usual])] == expected
    said = [line[1:] for line in said_by_example(bundle, str(usual))]
    assert [line[1:] for line in said_by_example(bundle, str(turned))] == said


def test_predict_starts_without_torch(bundle: Path, tmp_path: Path):
    table = write_table(tmp_path / "new.csv", drawn(5)[:3])
    command = [sys.executable, "-c", NO_TORCH, str(bundle), str(table)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["example"] for row in csv.DictReader(done.stdout.splitlines())] == [f"{table}#{n}" for n in (1, 2, 3)]


def test_the_example_classifies_and_learns(bundle: Path, tiny_settings: Settings, tmp_path: Path):
    rows = drawn(5)
    table = write_table(tmp_path / "new.csv", rows[::7])
    own = write_table(tmp_path / "own.csv", rows[:24], [label.upper() for label in labels_of(3)])
    lines = said_by_example(bundle, str(table))
    assert lines == [
        [each.example, each.label, f"{each.probability:.3f}", f"novelty {each.novelty:.1f}"]
        for each in predict(bundle, [table])
    ]
    learned = said_by_example(bundle, "--learn", str(own), str(own))
    task = learner_of("protonet", rows, tiny_settings).adapt(rows[:24], [label.upper() for label in labels_of(3)])
    assert [line[1] for line in learned] == task.predict(rows[:24])


def test_inspect_and_a_page_that_there_is_not(
    bundle: Path, model: Path, tiny_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    commands.inspect(bundle)
    assert "vectors: rows of 5 numbers as they are" in capsys.readouterr().out
    assert json.loads((bundle / "metadata.json").read_text())["task"]["name"] == "nuts & bolts"
    assert r"nuts \& bolts" in (bundle / "MODEL_CARD.md").read_text()
    export = tiny_settings.export.model_copy(update={"page": True})
    settings = tiny_settings.model_copy(update={"export": export})
    support = write_table(tmp_path / "mine.csv", drawn(5), labels_of())
    with pytest.raises(MetaloomError, match="there is no page for vectors: set export.page to auto or false"):
        adapt_to(support, tmp_path / "out", model, settings, lambda done, text: None)
    assert not (tmp_path / "out").exists()


def test_a_support_set_is_a_table_or_a_folder_of_tables(tmp_path: Path):
    rows, labels = drawn(5), labels_of()
    whole = read_support(write_table(tmp_path / "all.csv", rows, labels), Vectors(), (5,))
    assert whole.labels == sorted(set(labels)) and np.array_equal(whole.examples, rows)
    (tmp_path / "parts").mkdir()
    write_table(tmp_path / "parts/1.csv", rows[:20], labels[:20])
    write_table(tmp_path / "parts/2.csv", rows[19:], labels[19:])  # one row stands in both
    parts = read_support(tmp_path / "parts", Vectors(), (5,))
    assert np.array_equal(parts.examples, rows) and parts.repeated == [f"{tmp_path / 'parts/2.csv'}#1"]


def test_refusals_of_tables(tmp_path: Path):
    rows, labels = drawn(5)[:16], labels_of(2)

    def refusal(path: Path, shape: tuple[int, ...] = (5,)) -> str:
        with pytest.raises(MetaloomError) as error:
            read_support(path, Vectors(), shape)
        return str(error.value)

    assert "not found: give a table (CSV, TSV, Parquet, Arrow or NumPy) with a column `class`" in refusal(
        tmp_path / "absent.csv"
    )
    assert "a.csv#1 has no class: name it in a column `class`" in refusal(write_table(tmp_path / "a.csv", rows))
    one = write_table(tmp_path / "b.csv", rows, ["same"] * 16)
    assert "has the one class same, a task needs two or more" in refusal(one)
    both = np.concatenate([rows, rows[:1]])
    wrong = refusal(write_table(tmp_path / "c.csv", both, [*labels, "class1"]))
    assert "c.csv#1 and" in wrong and "c.csv#17 are one row in two classes" in wrong
    assert "its size is 5, this model takes rows of 4" in refusal(write_table(tmp_path / "d.csv", rows, labels), (4,))
    (tmp_path / "e.csv").write_text("class,note\na,hello\nb,you\n")
    assert "e.csv has columns that are no numbers: note" in refusal(tmp_path / "e.csv")
    with pytest.raises(MetaloomError, match=r"e.csv has columns that are no numbers: note"):  # and no word of domains
        read_support(tmp_path / "e.csv", Vectors(domain="site"), (1,))
    (tmp_path / "f.csv").write_text("class,domain,x\na,one,1\na,two,2\n")
    assert read_support(tmp_path / "f.csv", Vectors(), (1,)).labels == ["one/a", "two/a"]


def test_a_fleet_of_tables(
    model: Path, tiny_settings: Settings, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "params.yaml").write_text((repo / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    fleet.maker_of.cache_clear()
    (tmp_path / "tasks").mkdir()
    for name, seed in (("one", 1), ("two", 2)):
        write_table(tmp_path / f"tasks/{name}.csv", drawn(5, 3, seed), labels_of(3))
    (tmp_path / "tasks/notes.txt").write_text("no task")
    paths = task_paths(tmp_path / "tasks", Vectors())
    outcomes = fleet.make_bundles([str(path) for path in paths], "out", str(model))
    assert [(each.task, each.status) for each in outcomes] == [("one", "made"), ("two", "made")]
    learner, rows = learner_of("protonet", drawn(5), tiny_settings), drawn(5, 3, 2)
    assert verify(Path("out/two")).problems == []
    expected = learner.adapt(rows, labels_of(3)).predict_proba(rows)
    found = predict("out/two", [tmp_path / "tasks/two.csv"])
    for each, row in zip(found, expected, strict=True):
        assert [each.probabilities[f"class{way}"] for way in range(3)] == pytest.approx(row.tolist(), abs=1e-5)
    (tmp_path / "tasks/one").mkdir()
    with pytest.raises(MetaloomError, match="one and .*one.csv have one name: rename one of them"):
        task_paths(tmp_path / "tasks", Vectors())
