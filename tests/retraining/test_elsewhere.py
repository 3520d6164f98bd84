"""A stage of one retraining that another clone makes: what goes there, what comes back, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from nights import BEGAN
from prefect.exceptions import ParameterTypeError, SignatureMismatchError
from projects import environment
from working import METHODS, METHODS_DAG, METHODS_STEP, Workers

from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import is_current, reproduce
from metaloom.retraining import clones, elsewhere, relay, transfers
from metaloom.retraining.nights import FOLDER, Night
from metaloom.retraining.workspace import open_workspace
from metaloom.system.lock import STATE, BusyError

STAGES = [f"train@{method}" for method in METHODS]


class Two:
    """A retraining in one clone, whose first stage has ended, and another clone."""

    def __init__(self, home: Path) -> None:
        team = Workers(home, {}, None, METHODS_DAG, METHODS_STEP)
        team.make()
        self.a, self.b = self.clone(team, "a"), self.clone(team, "b")
        self.origin = team
        base = team.git("rev-parse", "main")
        data = yaml.safe_load((team.here / "data.dvc").read_text())["outs"][0]["md5"]
        self.night = Night("n-1", 40 * "a", base, data, BEGAN)
        self.place = open_workspace(self.a, self.night)
        reproduce(self.place, "prepare")

    def clone(self, team: Workers, name: str) -> Path:
        (team.home / name).mkdir()
        os.chdir(team.home / name)
        return clones.clone(str(team.origin), "main", "", "", 0)

    def made(self, name: str) -> None:
        """By the other clone."""
        with elsewhere.taken_up(self.b, self.night.key, name) as (place, night):
            reproduce(place, name)
            elsewhere.give_stage(self.b, place, night, name)

    def take(self, name: str) -> None:
        elsewhere.take_stage(self.a, self.place, self.night, name)

    def locked(self) -> list[str]:
        return list(transfers.locked(self.place))


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Two:
    monkeypatch.chdir(tmp_path)
    for name, value in (environment() | {"WORKERS": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    return Two(tmp_path)


def test_a_stage_comes_back_as_if_it_had_run_here(two: Two):
    elsewhere.offer(two.a, two.place, two.night)
    two.made("train@maml")
    assert elsewhere.is_given(two.a, two.night.key, "train@maml")
    two.take("train@maml")
    assert is_current(two.place, "train@maml") and not is_current(two.place, "train@ridge")
    assert (two.place / "maml.txt").read_text() == 'maml.txtprepared.txt{"accuracy": 1}'
    assert (two.place / "maml.json").read_text() == '{"loss": 0.5}'
    assert [who for _, _, who in two.origin.steps()] == ["a", "b"]
    assert not list((two.b / ".metaloom/retraining").glob("stage-*"))

    for name in STAGES[:2]:
        reproduce(two.place, name)
    assert two.locked() == ["prepare", "train@maml", *STAGES[:2]]
    elsewhere.put_in_order(two.place, STAGES)
    assert two.locked() == ["prepare", *STAGES]
    assert two.origin.git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/metaloom/stages").split() == [
        "offered",
        "train@maml",
    ]
    relay.forget(two.a, two.night)
    assert two.origin.git("for-each-ref", "refs/metaloom") == ""
    assert not elsewhere.is_given(two.a, two.night.key, "train@maml")


@pytest.mark.slow
def test_a_stage_of_other_inputs_is_not_current(two: Two):
    elsewhere.offer(two.a, two.place, two.night)
    two.made("train@maml")
    (two.place / "prepared.txt").write_text("other")
    two.take("train@maml")
    assert not is_current(two.place, "train@maml")


@pytest.mark.slow
def test_checkpoints_are_sent_that_are_new_and_taken_over(two: Two):
    elsewhere.offer(two.a, two.place, two.night)
    with elsewhere.taken_up(two.b, two.night.key, "train@maml") as (place, _):
        checkpoint = place / transfers.CHECKPOINTS / "maml.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_text("7")
        transfers.leave_checkpoints(place, two.night.key, {})
    with elsewhere.taken_up(two.b, two.night.key, "train@maml") as (place, _):
        assert (place / transfers.CHECKPOINTS / "maml.safetensors").read_text() == "7"
    with elsewhere.taken_up(two.b, two.night.key, "train@ridge") as (place, _):
        assert not (place / transfers.CHECKPOINTS).exists()  # of another method


def test_what_is_refused(two: Two, monkeypatch: pytest.MonkeyPatch):
    def refused(name: str, root: Path = two.b) -> str:
        with pytest.raises(MetaloomError) as error, elsewhere.taken_up(root, two.night.key, name):
            pass
        return str(error.value)

    assert "no retraining aaaaaaaa is offered in git's remote" in refused("train@maml")
    elsewhere.offer(two.a, two.place, two.night)
    assert refused("train@anil") == "dvc.yaml of retraining aaaaaaaa has no stage train@anil"
    assert "in a worker's clone alone" in refused("train@maml", two.origin.here)
    monkeypatch.setattr(elsewhere, "take_over", lambda place: "metaloom 2 is here")
    assert "another metaloom than the one that retrains (metaloom 2 is here): install" in refused("train@maml")
    with pytest.raises(MetaloomError):
        two.take("train@maml")


@pytest.mark.slow
def test_a_clone_that_retrains_takes_no_stage(two: Two):
    elsewhere.offer(two.a, two.place, two.night)
    state = two.b / FOLDER / STATE
    state.mkdir(parents=True)
    with FileLock(state / "lock"), pytest.raises(BusyError), elsewhere.taken_up(two.b, two.night.key, "train@maml"):
        pass


@pytest.mark.parametrize(
    "given",
    [
        {"training": "../x"},
        {"training": "a" * 39},
        {"name": "prepare"},
        {"name": "../x@y"},
        {"name": "a@b;c"},
        {"x": 1},
    ],
)
def test_parameters_name_a_retraining_and_a_stage_alone(given: dict):
    from flows.stage import stage

    whole = {"training": "a" * 64, "name": "train@maml"}
    assert stage.validate_parameters(whole) == whole
    with pytest.raises((ParameterTypeError, SignatureMismatchError)):
        stage.validate_parameters(whole | given)
