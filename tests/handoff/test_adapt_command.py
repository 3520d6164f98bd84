from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image, ImageOps
from typer.testing import CliRunner

from metaloom.cli import adapt
from metaloom.cli import bundle as commands
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting import one
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.shipped.verify import verify


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    for command in (adapt.adapt, commands.predict, commands.verify):
        app.command()(command)
    return app


@pytest.fixture(autouse=True)
def root(repo: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which only the settings, the stages and one trained meta-learner are there."""
    root = tmp_path / "root"
    for name in ("protonet", "maml"):
        shutil.copytree(model, root / "artifacts" / "models" / name)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, root)
    monkeypatch.chdir(root)
    return root


def test_adapt_predict_verify(app: typer.Typer, shapes: Path, whole_bundle: Path, tmp_path: Path):
    runner, out = CliRunner(), tmp_path / "mine"
    done = runner.invoke(app, ["adapt", "--support", str(shapes / "domain0"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "5-fold cross-validation on 32 examples" in done.output and done.output.endswith(f"{out}\n")
    assert not verify(out).problems

    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["metrics"]["task"]["kind"] == "cross_validation"
    assert metadata["task"] == {
        "name": "domain0", "n_way": 4, "support_examples": 32, "meta_trained_on_it": False, "chosen_on_it": False
    }  # fmt: skip
    card = (out / "MODEL_CARD.md").read_text()
    assert f"**{metadata['metrics']['task']['accuracy']:.1%}**" in card and "0. class0" in card

    files = [str(shapes / "domain0" / name / "0.png") for name in ("class0", "class3")]
    shown = runner.invoke(app, ["predict", str(out), *files]).stdout.splitlines()
    assert [line.split("\t")[0] for line in shown] == files
    answers = json.loads(runner.invoke(app, ["predict", str(out), *files, "--json"]).stdout)
    assert [
        f"{each['example']}\t{each['label']}\t{each['probability']:.3f}\tnovelty {each['novelty']:.1f}"
        for each in answers
    ] == shown
    assert sorted(answers[0]["probabilities"]) == ["class0", "class1", "class2", "class3"]

    assert runner.invoke(app, ["verify", str(out)]).exit_code == 0
    (out / "labels.json").unlink()
    assert runner.invoke(app, ["verify", str(out)]).exit_code == 1


@pytest.fixture
def red(shapes: Path, tmp_path: Path) -> Path:
    """The tiny data set's first domain, drawn in red."""
    folder = tmp_path / "red"
    for path in sorted((shapes / "domain0").rglob("*.png")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        drawn = ImageOps.colorize(Image.open(path).convert("L"), (180, 20, 20), "white")
        drawn.save(folder / path.parent.name / path.name)
    return folder


def test_colours_that_a_grey_model_drops_are_said_in_one_line(app: typer.Typer, red: Path, shapes: Path, bundle: Path):
    runner, dropped = CliRunner(), "colours are dropped: this model reads grey, and "
    done = runner.invoke(app, ["adapt", "--support", str(red), "--out", str(red.parent / "mine")])
    assert done.exit_code == 0 and done.output.count("colours are dropped") == 1
    assert re.search(dropped + r"(\d+) of the \1 images looked at are in colour\n", done.output)
    files = [str(red / "class0/0.png"), str(shapes / "domain0/class0/1.png")]
    asked = runner.invoke(app, ["predict", str(bundle), *files])
    assert asked.stdout.count(dropped) == 1 and f"{dropped}1 of the 2 images" in asked.stdout
    assert f"{dropped}it is in colour" in runner.invoke(app, ["predict", str(bundle), files[0], "--csv"]).stderr
    assert dropped not in runner.invoke(app, ["predict", str(bundle), files[1]]).output


@pytest.fixture
def negative(shapes: Path, tmp_path: Path) -> Path:
    """The tiny data set's first domain, light on dark."""
    folder = tmp_path / "negative"
    for path in sorted((shapes / "domain0").rglob("*.png")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        ImageOps.invert(Image.open(path)).save(folder / path.parent.name / path.name)
    return folder


@pytest.mark.slow
def test_negatives_are_read_as_what_they_show(shapes: Path, negative: Path, tmp_path: Path):
    adapt.adapt(shapes / "domain0", tmp_path / "plain")
    adapt.adapt(negative, tmp_path / "turned", invert=True)  # verified with its golden samples
    files = [f"class{n}/{n}.png" for n in range(4)]
    plain = predict(tmp_path / "plain", [shapes / "domain0" / file for file in files])
    turned = predict(tmp_path / "turned", [negative / file for file in files])
    for as_is, as_negative in zip(plain, turned, strict=True):
        assert as_is.probabilities == pytest.approx(as_negative.probabilities, abs=1e-6)
    described = json.loads((tmp_path / "turned/metadata.json").read_text())["input"]
    assert described["inverted"] is True and "negative" in described["description"]


@pytest.mark.slow
def test_negatives_are_noticed(shapes: Path, negative: Path, tmp_path: Path, monkeypatch, capsys):
    def with_accuracy(accuracy: float):
        monkeypatch.setattr(one, "cross_validated", lambda *_: {"accuracy": accuracy})
        adapt.adapt(negative, tmp_path / "bundle", force=True)
        return capsys.readouterr().out

    looks = "its images look like the negative of those in training"
    assert f"{looks}: with `--invert` 200.0% would be right" in with_accuracy(2.0)
    assert "--invert" not in with_accuracy(0.0)
    monkeypatch.setattr(one, "cross_validated", lambda *_: None)
    adapt.adapt(negative, tmp_path / "bundle", force=True)
    assert "two examples of every class would tell" in capsys.readouterr().out
    adapt.adapt(shapes / "domain0", tmp_path / "bundle", force=True)
    assert "--invert" not in capsys.readouterr().out
    monkeypatch.setattr(one, "cross_validated", lambda *_: {"accuracy": 2.0})
    adapt.adapt(shapes / "domain0", tmp_path / "bundle", force=True, invert=True)
    said = "as they are, its images look like those in training: without `--invert` 200.0% would be right"
    assert said in capsys.readouterr().out


@pytest.mark.slow
def test_predict_notices_them_too(shapes: Path, negative: Path, tmp_path: Path, capsys):
    """Most of the pictures, by what the bundle was trained on; one that reads negatives wants them."""
    adapt.adapt(shapes / "domain0", tmp_path / "plain")
    adapt.adapt(negative, tmp_path / "turned", invert=True)
    own, other = (sorted(folder.rglob("*.png"))[:3] for folder in (shapes / "domain0", negative))
    for bundle, files, looks in (
        ("plain", [*own, *other[:2]], False),
        ("plain", [own[0], *other], True),
        ("turned", other, False),
        ("turned", own, True),
    ):
        capsys.readouterr()
        commands.predict(tmp_path / bundle, list(map(str, files)))
        said = "".join(capsys.readouterr())
        assert (f"{len(files) - (len(files) == 4)} of {len(files)} images look like the negative" in said) == looks


def test_an_existing_folder_is_replaced_only_when_asked(bundle: Path, shapes: Path, tmp_path: Path):
    before = contents(bundle)
    with pytest.raises(MetaloomError, match="--force"):
        adapt.adapt(shapes / "domain1", bundle)
    assert contents(bundle) == before
    with pytest.raises(MetaloomError, match="is no bundle, so --force does not replace it"):
        adapt.adapt(shapes / "domain1", tmp_path, force=True)
    adapt.adapt(shapes / "domain1", bundle, force=True)
    assert json.loads((bundle / "metadata.json").read_text())["task"]["name"] == "domain1"


def test_a_failure_leaves_nothing(shapes: Path, root: Path, tmp_path: Path):
    (tmp_path / "support" / "one").mkdir(parents=True)
    out = tmp_path / "out" / "bundle"
    for support, model, words in (
        (tmp_path / "absent", None, "absent not found"),
        (tmp_path / "support", None, "has the one class one"),
        (shapes / "domain0", tmp_path / "no_model", "no_model/learner.json not found"),
    ):
        with pytest.raises(MetaloomError, match=words):
            adapt.adapt(support, out, model=model)
        assert not out.exists()
    shutil.rmtree(root / "artifacts")
    with pytest.raises(MetaloomError, match="has no meta-learner yet: `metaloom run` trains them"):
        adapt.adapt(shapes / "domain0", out)


def test_few_examples_take_one_thread(shapes: Path, tmp_path: Path, monkeypatch):
    """Two threads of torch would wait for each other for longer than they work."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(one, "FEW", 1)
        adapt.adapt(shapes / "domain0", tmp_path / "many")
        assert torch.get_num_threads() == 2
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path / "root")
        adapt.adapt(shapes / "domain0", tmp_path / "few")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_the_task_is_called_as_it_is_given(app: typer.Typer, shapes: Path, tmp_path: Path, monkeypatch):
    seen = []
    monkeypatch.setattr(one, "adapt_to", lambda *given: seen.append(given[-1]) or one.Made("done", []))
    call = ["adapt", "--support", str(shapes / "domain0"), "--out", str(tmp_path / "out")]
    for more in ([], ["--name", "nuts & bolts"]):
        assert CliRunner().invoke(app, [*call, *more]).exit_code == 0
    assert seen == ["", "nuts & bolts"]
    for name in ("", " ", "a\nb", "x" * 101):
        refused = CliRunner().invoke(app, [*call, "--name", name]).exception
        assert isinstance(refused, MetaloomError) and "give one line of up to 100 characters" in str(refused)
