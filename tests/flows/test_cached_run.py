"""A run that has nothing to do starts no server of Prefect, and says what the flow would say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import together
import typer
from standins import Standin
from typer.testing import CliRunner

from metaloom.cli import run as cli
from metaloom.pipeline.cached import cached_run
from metaloom.pipeline.summary import as_text
from metaloom.planning.budget import Budget, write_budget
from metaloom.versioning.data import version_data

app = typer.Typer()
app.command()(cli.run)


@pytest.fixture
def made(standin, standin_template, monkeypatch):
    """A project in which all is up to date; there is no server of the user's."""

    def make(root: Path) -> None:
        shutil.copytree(standin_template, root, symlinks=True, dirs_exist_ok=True)
        version_data(root)
        Standin(root).dvc("repro", "-q")

    shutil.copytree(together.once("standin_made", make), standin.root, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setattr(cli, "own_server", lambda root: None)
    monkeypatch.setattr(cli, "_pipeline", lambda *_: pytest.fail("the flow was called"))
    return standin


def test_nothing_to_do(made):
    for stage, stages in (([], 4), (["train"], 3), (["prepare"], 1)):
        said = CliRunner().invoke(app, stage).output.splitlines()
        data, counted, _ = said
        assert data.startswith("data    version ") and data.endswith(", unchanged")
        assert counted.startswith("stages  everything was cached") and (f"({stages} stages)" in counted or stages == 1)


def test_with_a_budget_it_is_among_the_stages(made):
    write_budget(made.root / "budget.yaml", Budget(minutes=3, data="another"))
    assert cached_run(made.root, None) is None


@pytest.mark.parametrize("change", ["data/a", "data/b", "step.py", "join.txt", "params.yaml"])
def test_where_something_is_due_or_wrong_the_flow_says_it(made, change):
    found = cached_run(made.root, None)
    assert found is not None and "everything was cached (4 stages)" in as_text(found)
    (made.root / change).write_text("a: 2\n")
    assert cached_run(made.root, None) is None


@pytest.mark.parametrize("arguments", [["--force"], ["--minutes", "0"], ["--set", "train.n_shot=3"]])
def test_what_is_asked_for_is_done(made, monkeypatch, arguments):
    called = []
    monkeypatch.setattr(cli, "_pipeline", lambda *given: called.append(given))
    monkeypatch.setattr(cli, "_made", lambda state: cached_run(made.root, "prepare"))
    assert CliRunner().invoke(app, arguments).exit_code == 0 and len(called) == 1


def test_a_server_of_ones_own_and_runs_that_were_killed_are_told(made, monkeypatch):
    monkeypatch.setattr(cli, "own_server", lambda root: "http://server/api")
    assert cli._cached(made.root, {}, None) is None
    monkeypatch.setattr(cli, "own_server", lambda root: None)
    assert cli._cached(made.root, {}, None) is not None
    (made.root / ".metaloom/flow-runs").mkdir()
    (made.root / ".metaloom/flow-runs/killed.json").touch()
    assert cli._cached(made.root, {}, None) is None
