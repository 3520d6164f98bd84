"""`metaloom plan`: which effort it shows, and that the run then has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import REPO
from typer.testing import CliRunner

from metaloom.cli import app, plan
from metaloom.config import PARAMS, read_params
from metaloom.config.methods import MethodName
from metaloom.errors import MetaloomError
from metaloom.measuring.choose import Measuring
from metaloom.planning.budget import BUDGET, NO_BUDGET, Budget, budget_for, planned_at, read_budget

RAW = read_params(REPO / PARAMS, {})


class Linear(Measuring):
    """A project whose run takes a minute for each unit of effort."""

    def __init__(self) -> None:
        super().__init__("", Path(), lambda: 0.0)

    def measured(self, effort: float) -> bool:
        return False

    def spare(self) -> list[MethodName]:
        return []

    def seconds(self, budget: Budget) -> dict[str, float]:
        return {"training": 60.0 * budget.effort}


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """`chosen(kept, minutes)`, in a project whose data/ is version "new"."""
    monkeypatch.setattr("metaloom.versioning.data.held_version", lambda root: "new")
    return lambda kept, minutes: plan._chosen(tmp_path, kept, minutes, RAW, Linear())


def kept_for(minutes: float, data: str = "new", effort: float = 0.5) -> Budget:
    return budget_for(minutes, data, RAW).model_copy(update={"effort": effort})


def test_without_minutes_there_is_no_budget(chosen, tmp_path):
    assert chosen(NO_BUDGET, None) == NO_BUDGET and not list(tmp_path.iterdir())


def test_what_is_chosen_is_kept_for_the_run(chosen, tmp_path):
    made = chosen(NO_BUDGET, 4)
    assert (made.minutes, made.data, made.effort) == (4, "new", 3.3636)
    assert read_budget(tmp_path / planned_at(4)) == made and not (tmp_path / BUDGET).exists()


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("minutes", ["1e308", "inf", "nan", "-1", "0.0001"])
def test_minutes_that_no_run_can_take_are_refused_before_anything_is_measured(command, minutes):
    refused = CliRunner().invoke(app.app, [command, f"--minutes={minutes}"]).exception
    assert isinstance(refused, MetaloomError) and "write from 0.5 to 10080 (a week); 0: a run" in str(refused)
    assert f"--minutes {float(minutes):g}: " in str(refused) and "\n" not in str(refused)


@pytest.mark.parametrize("minutes", [4, None])
def test_what_is_kept_is_shown_while_it_holds(chosen, capsys, minutes):
    assert chosen(kept_for(4), minutes) == kept_for(4)
    assert "keeps what was chosen for --minutes 4" in capsys.readouterr().out


def test_an_effort_of_other_data_is_not_shown_as_if_it_held(chosen, tmp_path, capsys):
    made = chosen(kept_for(4, data="old"), None)
    assert made.effort == 3.3636 and read_budget(tmp_path / planned_at(4)) == made
    assert "the effort in budget.yaml is of other data: the next run has the one that is" in capsys.readouterr().out


def test_an_effort_of_other_settings_is_not_shown_as_if_it_held(chosen, capsys):
    assert chosen(kept_for(4).model_copy(update={"settings": "before"}), None).effort == 3.3636
    assert "is of other settings" in capsys.readouterr().out


def test_a_mistake_in_a_setting_is_said_before_anything_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "enter_project", lambda: REPO)
    monkeypatch.setattr(plan, "_prepare", lambda root: pytest.fail("it began"))
    refused = CliRunner().invoke(app.app, ["plan", "--set", "methods=[protonets]"])
    assert isinstance(refused.exception, MetaloomError) and "methods" in str(refused.exception)


def test_what_prepare_has_just_said_is_not_said_again(tmp_path, monkeypatch, capsys):
    def reproduced(root, stage, out, err):
        out("images: read in colour, as 9 of 9 are")
        out("")

    (tmp_path / "data").mkdir()
    monkeypatch.setattr("metaloom.pipeline.stages.is_current", lambda root, stage: stage != "prepare")
    monkeypatch.setattr("metaloom.pipeline.child.reproduce_in_child", reproduced)
    heard = plan._prepare(tmp_path)
    assert "images: read in colour" in capsys.readouterr().out
    fitted = ["seed  1", "", "images: read in colour, as 9 of 9 are", "episodes: 3 ways"]
    assert list(plan._unheard(fitted, heard)) == ["seed  1", "", "episodes: 3 ways"]
