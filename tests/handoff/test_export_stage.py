from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml

from metaloom.config import Settings
from metaloom.data.packed import Dataset
from metaloom.errors import MetaloomError
from metaloom.handoff.bundle import write as bundle_module
from metaloom.handoff.bundle.card import model_card
from metaloom.handoff.metadata import read_metadata, with_reading
from metaloom.handoff.shipped.verify import verify
from metaloom.learner import Learner
from metaloom.learner.estimate import wilson
from metaloom.planning.deployment import draw_task
from metaloom.stages import export, plan, prepare, split
from metaloom.system.files import write_json

MD5 = "0123456789abcdef0123456789abcdef.dir"
DOMAINS = "setting,domain,accuracy,low95,high95,queries"
OVER = {"classes": 8, "classes_low95": 0.41, "classes_high95": 0.78}
SCORE = {"accuracy": 0.61, "ci95": 0.02, "nll": 0.9, "episodes": 12, **OVER}


@pytest.fixture(scope="module")
def root(
    shapes: Path,
    make_learner: Callable[[str], Learner],
    tiny_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """All that the stage reads: a prepared and split data set, two models of which maml is the champion."""
    root = tmp_path_factory.mktemp("root")
    write_params(root, tiny_settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        prepare.main(str(shapes), "dataset")
        plan.main("dataset", "budget.yaml", "plan.json", "splits.yaml")
        split.main("dataset", "plan.json", "splits.yaml", "splits")
    for name, accuracy in (("protonet", 0.5), ("maml", 0.7)):
        folder = root / "models" / name
        folder.mkdir(parents=True)
        make_learner(name).save(folder)
        validation = {"setting": "3w1s", "accuracy": accuracy, "nll": 1.0, "episodes": 12, "looks": 4}
        write_json(folder / "metrics.json", {"validation": validation, "best_step": 1, "steps": 1})
    measured = root / "evaluation"
    measured.mkdir()
    write_json(measured / "figures.json", {name: {"3w1s": SCORE} for name in ("protonet", "maml", "logistic")})
    write_json(measured / "rivals.json", {"3w1s": {"task": "logistic"}})
    gap = {"setting": "3w1s", "learner": "maml", "rival": "logistic", "difference": -0.05, "ci95": 0.01}
    write_json(measured / "differences.json", [gap | {"episodes": 12, "p_holm": 0.01, "classes_ci95": 0.08}])
    own = "3w1s,domain7,0.75,0.7,0.8,40"
    rows = f"protonet,{own}\nmaml,{own}\nmaml,3w1s,domain8,0.5,0.4,0.6,40\nmaml,3w2s{own[4:]}\n"
    (measured / "domains.csv").write_text(f"learner,{DOMAINS}\n{rows}")
    (root / "data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": MD5, "path": "data"}]}))
    return root


def write_params(root: Path, settings: Settings, **options: object) -> None:
    raw = settings.model_dump(mode="json")
    raw["export"] |= options
    (root / "params.yaml").write_text(yaml.safe_dump(raw))


@pytest.fixture(autouse=True)
def here(root: Path, tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    write_params(root, tiny_settings)


def run(bundle: Path) -> None:
    export.main("dataset", "splits", "plan.json", "models", "evaluation", str(bundle))


@pytest.fixture(scope="module")
def exported(root: Path, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_params(root, tiny_settings)
        run(out)
    return out


@pytest.mark.slow
def test_the_champion_for_the_first_test_domain(exported: Path):
    assert not verify(exported).problems
    metadata = json.loads((exported / "metadata.json").read_text())
    classes = pd.read_parquet("splits/classes.parquet")
    domain = classes.loc[classes["split"] == "test", "domain"].iloc[0]
    assert metadata["method"] == "maml" and metadata["task"]["name"] == domain
    assert metadata["provenance"]["data"] == MD5
    assert metadata["metrics"]["evaluation"] == {"3w1s": SCORE}
    values = ("3w1s", "domain7", 0.75, 0.7, 0.8, 40)
    others = ("3w1s", "domain8", 0.5, 0.4, 0.6, 40)
    assert metadata["metrics"]["domains"] == [
        dict(zip(DOMAINS.split(","), row, strict=True)) for row in (values, others)
    ]
    card = (exported / "MODEL_CARD.md").read_text()
    assert "| domain7 | 75.0% (70.0% to 80.0%) | 40 |" in card and "Licence: not stated." in card
    assert "| 61.0 ± 2.0% (of other classes 41.0 to 78.0%: only 8 were asked about) |" in card
    assert "\nmetaloom run\n" in card
    assert (
        "is not clearly different (−5.0 points, ± 8.0 for other classes, ± 1.0 for other questions about the same "
        "ones) from that of `logistic`, the best without"
    ) in card
    assert metadata["metrics"]["validation"]["accuracy"] == 0.7
    assert "| validation | 3w1s | 70.0%, the best of 4 looks |" in card
    assert not metadata["task"]["meta_trained_on_it"] and not metadata["task"]["chosen_on_it"]
    names = sorted(classes.loc[classes["domain"] == domain, "class"])
    assert [f"{domain}/{label}" for label in json.loads((exported / "labels.json").read_text())] == names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "rival", "words"),
    [
        (100, {"classes_ci95": 0.08}, "is 5.0 ± 1.0 points less than"),
        (8, {"classes_ci95": 0.02}, "is 5.0 points (± 2.0 for other classes, ± 1.0 for other questions about the same"),
        (2, {"classes_ci95": None}, "is not clearly different (−5.0 points, ± 1.0 for other questions about the same "),
        (2, {"ci95": None}, "is 5.0 points less (12 episodes, no interval) than"),
    ],
)
def test_the_card_counts_a_lead_as_clear_only_where_it_is_so_over_classes_too(exported: Path, classes, rival, words):
    raw = json.loads((exported / "metadata.json").read_text())
    raw["metrics"]["evaluation"]["3w1s"]["classes"] = classes
    raw["metrics"]["rival"] |= rival
    if classes == 2:
        raw["metrics"]["evaluation"]["3w1s"].update(classes_low95=None, classes_high95=None)
    card = model_card(read_metadata(raw), json.loads((exported / "labels.json").read_text()))
    assert f"12 episodes) {words}" in card
    assert ("61.0 ± 2.0% (only 2 classes were asked about, too few to tell about others)" in card) == (classes == 2)


def test_the_accuracy_is_that_of_the_file_on_what_it_has_not_learned(exported: Path, tiny_settings: Settings):
    classes, images = pd.read_parquet("splits/classes.parquet"), Dataset.load("dataset").examples
    task = draw_task(classes, tiny_settings.export, tiny_settings.seed)
    everything = [np.arange(f, f + n) for f, n in zip(classes["first"], classes["count"], strict=True)]
    own = np.concatenate([r for r, d in zip(everything, classes["domain"], strict=True) if d == task.domain])
    assert sorted([*task.support, *task.rest]) == own.tolist()
    assert np.bincount(task.support_ways).tolist() == [2, 2, 2, 2]

    session = onnxruntime.InferenceSession(exported / "model.onnx")
    answers = np.asarray(session.run(None, {"examples": images[task.rest]})[0]).argmax(axis=1)
    right = int((answers == task.rest_ways).sum())
    measured = json.loads((exported / "metadata.json").read_text())["metrics"]["task"]
    assert (measured["accuracy"], measured["examples"]) == (right / len(task.rest), len(task.rest))
    assert (measured["low95"], measured["high95"]) == wilson(right, len(task.rest))
    assert f"measured on {len(task.rest)} held-out examples" in (exported / "MODEL_CARD.md").read_text()


def test_of_a_domain_that_is_shared_out_its_test_classes_are_deployed(root: Path, tiny_settings: Settings):
    classes = pd.read_parquet(root / "splits/classes.parquet")
    classes = classes[classes["domain"] == "domain0"].assign(split=["train", "test", "validation", "test"])
    task = draw_task(classes, tiny_settings.export, tiny_settings.seed)
    assert (task.labels, task.split) == (["class1", "class3"], "test")
    named = tiny_settings.model_copy(update={"export": tiny_settings.export.model_copy(update={"domain": "domain0"})})
    task = draw_task(classes, named.export, named.seed)
    assert (len(task.labels), task.split) == (4, "train")  # training has seen one of them


def test_a_second_export_is_the_same_to_the_byte(exported: Path, tmp_path: Path):
    run(tmp_path / "bundle")
    assert subprocess.run(["diff", "-r", exported, tmp_path / "bundle"], capture_output=True).returncode == 0


def test_what_does_not_verify_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def wrong_answers(folder: Path, *_: object) -> None:
        folder.mkdir()
        np.save(folder / "a.examples.npy", np.zeros((1, 5, 5, 1), np.uint8))
        np.save(folder / "a.probabilities.npy", np.full((1, 4), 9, np.float32))
        np.save(folder / "a.novelty.npy", np.full(1, 9, np.float32))

    monkeypatch.setattr(bundle_module, "write_samples", wrong_answers)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").touch()
    with pytest.raises(MetaloomError, match="does not verify: model.onnx: on samples/a"):
        run(tmp_path / "bundle")
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "old"]


def test_an_interrupted_export_leaves_no_half_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_module, "model_card", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, words",
    [
        ({"domain": "Klingon"}, "there is no 'Klingon'; test domains: domain"),
        ({"n_shot": 9}, "export.n_shot is 9, but class .* has 8 examples; the largest that works is 8"),
        ({"opset": 21, "ir_version": 9}, "opset 21 needs 10"),
    ],
)
def test_settings_that_cannot_work(options: dict, words: str, root: Path, tiny_settings: Settings, tmp_path: Path):
    write_params(root, tiny_settings, **options)
    with pytest.raises(MetaloomError, match=words):
        run(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_training_domain_and_no_example_to_spare(root: Path, tiny_settings: Settings, tmp_path: Path):
    classes = pd.read_parquet("splits/classes.parquet")
    domain = classes.loc[classes["split"] == "train", "domain"].iloc[0]
    write_params(root, tiny_settings, domain=domain, n_shot=8)
    run(tmp_path / "bundle")
    metadata = json.loads((tmp_path / "bundle" / "metadata.json").read_text())
    assert metadata["metrics"]["task"] is None and metadata["task"]["meta_trained_on_it"]
    assert "Not measured" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("split", "trained", "chosen", "words"),
    [
        ("train", True, False, "The meta-learner was trained on these very classes"),
        ("validation", False, True, "The meta-learner and its temperature were chosen by how well they do on these"),
        ("test", False, False, None),
    ],
)
def test_a_task_that_the_meta_learner_owes_something_to_says_so(split, trained, chosen, words, exported: Path):
    """The card's text, and what the stage knows of the domain's split."""
    metadata = json.loads((exported / "metadata.json").read_text())
    about = export.about_split(split)
    assert about == {"meta_trained_on_it": trained, "chosen_on_it": chosen}
    metadata["task"] |= about
    text = model_card(read_metadata(metadata), ["a", "b", "c", "d"])
    for other in ("was trained on these very classes", "were chosen by how well they do on these"):
        assert (other in text) == (words is not None and other in words)


def test_how_the_training_data_were_read_stands_in_the_card(exported: Path):
    """Where there is something to say of it: `prepare` writes it into quality.json."""
    raw = json.loads((exported / "metadata.json").read_text())
    said = with_reading(read_metadata(raw), "images: read in colour, as 9 of the 9 looked at are")
    again = read_metadata(json.loads(json.dumps(said.plain())))
    card = model_card(again, list("abcd"))
    assert "Licence: not stated. Images: read in colour, as 9 of the 9 looked at are." in card
    assert with_reading(again, None) == again and "reading" not in raw["input"]


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_and_whether_it_is_the_whole_truth(tmp_path: Path):
    from metaloom.system.provenance import commit, data_version

    assert commit(tmp_path) is None and data_version(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None
    (tmp_path / "params.yaml").write_text("seed: 0")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == {"commit": head, "uncommitted_changes": False}
    (tmp_path / "params.yaml").write_text("seed: 1")
    assert commit(tmp_path) == {"commit": head, "uncommitted_changes": True}
    git(tmp_path, "commit", "-qam", "second")
    second = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "dvc.lock").write_text("the results of a run")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "results")
    assert commit(tmp_path) == {"commit": second, "uncommitted_changes": False}  # the same run again is the same bundle
    (tmp_path / "data.dvc").write_text("outs: 3")
    assert commit(tmp_path)["uncommitted_changes"] is True  # of other data
    with pytest.raises(MetaloomError, match="dvc add data"):
        data_version(tmp_path)
