from __future__ import annotations

import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from metaloom.cli import bundle, engine, report
from metaloom.cli.app import app
from metaloom.cli.project import given_overrides, trained_or_champion
from metaloom.errors import MetaloomError
from metaloom.versioning.data import absent, refuse_no_data


def test_the_champion_is_of_those_that_a_run_has_trained(repo, tmp_path, monkeypatch):
    """With `--set methods=[maml]` the other method of params.yaml has no model."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, tmp_path)
    with pytest.raises(MetaloomError, match="^artifacts/models has no meta-learner yet: `metaloom run` trains them$"):
        trained_or_champion(None)
    for name, accuracy in (("maml", 0.5), ("ridge", 0.9)):
        (tmp_path / "artifacts/models" / name).mkdir(parents=True)
        metrics = {"validation": {"accuracy": accuracy}}
        (tmp_path / "artifacts/models" / name / "metrics.json").write_text(json.dumps(metrics))
    assert trained_or_champion(None).name == "maml"  # ridge is not in params


@pytest.fixture
def deep(repo, tmp_path, monkeypatch):
    """A folder inside a project."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, tmp_path)
    (tmp_path / "notes/old").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notes/old")
    return tmp_path / "notes/old"


def test_a_command_called_below_the_root_is_of_the_project(deep, tmp_path, monkeypatch, capsys):
    (tmp_path / "report").mkdir()
    (tmp_path / "report/index.html").touch()
    report.report()
    assert capsys.readouterr().out == f"{tmp_path / 'report/index.html'}\n"
    assert bundle._models_here() == tmp_path / "artifacts/models"
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("engine: auto", "engine: steam"))
    with pytest.raises(MetaloomError, match="engine is steam"):
        engine.engine()


@pytest.mark.parametrize("command", ["data check mine", "data add mine", "adapt --support mine --model mine --out x"])
def test_a_path_is_from_where_the_command_was_called(deep, command):
    """Wherever it fails then: what it looked for is beside the caller, and the rest is the project's."""
    (deep / "mine").mkdir()
    failed = CliRunner().invoke(app, command.split()).exception
    assert isinstance(failed, MetaloomError)
    assert str(deep / "mine") in str(failed)
    assert os.getcwd() == str(deep.parents[1])


@pytest.mark.parametrize("command", ["data check", "data add .", "report", "plan", "compare HEAD", "models", "promote"])
def test_outside_of_a_project_every_command_says_the_same(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(app, command.split()).exception
    assert str(failed).startswith(
        f"no project at {tmp_path} or above it: a project has dvc.yaml and params.yaml; go to"
    )


def test_all_that_is_wrong_with_what_set_gives_is_said(repo):
    given = ["a.b=1", "seed=3", "protonet.steps=abc", "x", "train.n_shots=2"]
    with pytest.raises(MetaloomError) as refused:
        given_overrides(repo, given)
    said = str(refused.value)
    for words in (
        "--set a.b: there is no setting 'a'",
        "protonet.steps=abc: protonet.steps",
        "--set x: write KEY=VALUE",
    ):
        assert words in said
    assert "--set train.n_shots: there is no setting 'n_shots'" in said and "seed" not in said.partition("Known")[0]
    assert given_overrides(repo, ["seed=3", "kind=text", "network.name=linear"])["kind"] == "text"


@pytest.fixture
def own(repo, tmp_path, monkeypatch):
    """A project of `metaloom init`, as far as what looks for data can see."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repo / name, tmp_path)
    (tmp_path / "code.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["run", "run train", "plan", "data list", "data list greek"])
def test_without_data_each_command_says_at_once_what_fills_it(own, command, monkeypatch):
    monkeypatch.setattr("metaloom.cli.run.prefect_server", lambda root: pytest.fail("a server was started"))
    monkeypatch.setattr("metaloom.cli.run.stages_for", lambda root, stage: None)
    failed = CliRunner().invoke(app, command.split()).exception
    assert str(failed) == "there is no data/ yet: `metaloom data add PATH` fills it"
    (own / "code.yaml").unlink()  # a clone of the tool's repository, which has the glyphs
    assert str(absent(own)).endswith("fills it, the first `metaloom run` too")
    refuse_no_data(own)
    (own / "data.dvc").touch()
    assert str(absent(own)).endswith("`metaloom run` or `dvc pull` fetch it")
