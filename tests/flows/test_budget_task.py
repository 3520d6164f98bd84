"""The flow's task `budget`: when what was chosen still holds, and when it is chosen again."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import typer
from projects import REPO

from metaloom.cli.run import _made
from metaloom.config import OVERRIDES, PARAMS, read_params
from metaloom.config.settings import LimitSettings
from metaloom.errors import BAD_INPUT, FAILED, MetaloomError
from metaloom.pipeline.child import RefusedError
from metaloom.planning.budget import BUDGET, NO_BUDGET, budget_for, planned_at, read_budget, with_budget, write_budget
from metaloom.system.limits import LOOKS, HungError, Watch
from metaloom.system.provenance import data_version

DATA = "0123.dir"
LIMITS = LimitSettings(stage_minutes=20, stall_minutes=5, remote_seconds=60)


class Flow:
    """The task in a folder, with a stand-in for the measuring: it chooses effort 2, or refuses."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        from flows import pipeline as module

        self.module, self.root, self.measured = module, root, list[list[str]]()
        self.refusal: MetaloomError | None = None
        patch.setattr(module, "run_module", self._measuring)
        patch.setattr(module, "_listeners", lambda: (print, print))

    def _measuring(self, root: str, module: str, arguments: list[str], _out, _err, watch: Watch) -> None:
        self.measured.append(arguments)
        if self.refusal:
            raise self.refusal
        assert watch.every == 5 * 60 / LOOKS
        assert module == "metaloom.measuring"
        write_budget(Path(root, BUDGET), self.chosen(float(arguments[0]), 2.0, data_version(root)))

    def chosen(self, minutes: float, effort: float, data: str = DATA):
        asked = budget_for(minutes, data, read_params(self.root / PARAMS))
        return asked.model_copy(update={"effort": effort})

    def __call__(self, minutes: float):
        """The state of the task, and how often it measured."""
        self.measured.clear()
        state = self.module.budget.fn(str(self.root), minutes, time.time(), LIMITS)
        return state, len(self.measured)

    @property
    def kept(self):
        return read_budget(self.root / BUDGET)


@pytest.fixture
def flow(tmp_path, monkeypatch) -> Flow:
    shutil.copy(REPO / PARAMS, tmp_path)
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {DATA}\n")
    return Flow(tmp_path, monkeypatch)


def test_without_a_budget_nothing_is_measured(flow):
    state, measured = flow(0)
    assert (state.name, measured) == ("Cached", 0) and not (flow.root / BUDGET).exists()


def test_what_was_chosen_holds_until_n_changes(flow):
    assert [flow(10)[1], flow(10)[1]] == [1, 0]
    assert flow(10)[0].name == "Cached" and flow.kept == flow.chosen(10, 2.0)
    assert flow(20)[1] == 1 and flow.kept.minutes == 20
    assert flow(0)[0].name == "Ran" and flow.kept == NO_BUDGET


def test_it_is_chosen_again_for_other_data_and_says_so(flow, capsys):
    flow(10)
    (flow.root / "data.dvc").write_text("outs:\n- md5: 4567.dir\n")
    assert flow(10)[1] == 1 and flow.kept.data == "4567.dir"
    assert "budget: chosen again, for other data than before" in capsys.readouterr().out


@pytest.mark.parametrize(
    "override",
    [{"methods": ["protonet", "ridge"]}, {"network.width": 32}, {"maml.steps": 100}, {"network.name": "mlp"}],
)
def test_it_is_chosen_again_for_other_settings_and_says_so(flow, monkeypatch, capsys, override):
    flow(10)
    monkeypatch.setenv(OVERRIDES, json.dumps(override))
    assert [flow(10)[1], flow(10)[1]] == [1, 0]
    assert capsys.readouterr().out.count("budget: chosen again, for other settings than before") == 1


@pytest.mark.parametrize("override", [{"reptile.steps": 7}, {"vectors.scaling": "none"}, {"export.n_shot": 3}])
def test_settings_that_take_no_time_of_this_run_change_nothing(flow, monkeypatch, override):
    flow(10)
    monkeypatch.setenv(OVERRIDES, json.dumps(override))
    assert flow(10)[1] == 0


def test_a_key_that_is_missing_is_auto(flow):
    flow(10)
    text = (flow.root / PARAMS).read_text()
    (flow.root / PARAMS).write_text(text.replace("  width: auto ", "  #"))
    assert "width" not in read_params(flow.root / PARAMS)["network"] and flow(10)[1] == 0


def test_what_plan_has_chosen_is_run(flow, capsys):
    planned = flow.chosen(10, 3.0)
    write_budget(flow.root / planned_at(10), planned)
    assert flow(10)[1] == 0 and flow.kept == planned
    assert "effort 3.00, as `metaloom plan` has chosen" in capsys.readouterr().out
    assert flow(20)[1] == 1
    write_budget(flow.root / planned_at(10), flow.chosen(10, 3.0, data="other.dir"))
    assert flow(10)[1] == 1 and flow.kept.effort == 2.0


def test_a_refusal_is_the_task_s_and_leaves_the_file(flow):
    flow(10)
    flow.refusal = MetaloomError("--minutes 1 is too short")
    state, _ = flow(1)
    assert state.is_failed() and state.message == str(flow.refusal) and flow.kept.minutes == 10


@pytest.mark.parametrize(("error", "code"), [(RefusedError, BAD_INPUT), (MetaloomError, FAILED)])
def test_minutes_that_are_too_short_end_a_run_as_they_end_plan(flow, error, code, capsys):
    flow.refusal = error("--minutes 1 is too short")
    state, _ = flow(1)
    with pytest.raises(typer.Exit) as ended:
        _made(flow.module.failed(state))
    assert ended.value.exit_code == code and capsys.readouterr().err == "error: --minutes 1 is too short\n"


def test_measuring_that_hangs_ends_with_a_stage_s_states(flow):
    flow.refusal = HungError("metaloom.measuring: ended after 20 min (limits.stage_minutes)", "TimedOut")
    state, _ = flow(10)
    assert (state.name, state.message) == ("TimedOut", str(flow.refusal)) and not (flow.root / BUDGET).exists()


def test_the_measuring_hears_since_when_the_run_has_been_going(flow):
    flow.module.budget.fn(str(flow.root), 10, 123456.7891, LIMITS)
    assert flow.measured == [["10", "123456.789"]]


def test_it_comes_before_what_depends_on_it(flow):
    place = with_budget
    assert place(["prepare", "plan", "split"], 10) == ["prepare", "budget", "plan", "split"]
    assert place(["prepare", "plan"], None) == ["prepare", "plan"]
