"""Stages through DVC in process: order, currency, overridden settings, other DVC commands at work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from metaloom.cli import run
from metaloom.config import OVERRIDES
from metaloom.errors import MetaloomError
from metaloom.pipeline.child import reproduce_in_child
from metaloom.pipeline.stages import StageExit, is_current, reproduce, stage_names, stages_for
from metaloom.system.lock import BusyError
from metaloom.versioning.data import version_dataset
from metaloom.versioning.project import find_root, overriding

ALL = ["prepare", "train@protonet", "train@maml", "join"]


def go(root) -> dict[str, str]:
    """Everything up to date, in process."""
    version_dataset(root)
    return {name: reproduce(root, name).name for name in stage_names(root)}


def test_stages_come_after_what_they_depend_on_and_else_as_written(standin):
    assert stage_names(standin.root) == ALL


def test_a_stage_comes_with_what_it_depends_on_and_nothing_else(standin):
    assert stages_for(standin.root, "prepare") == ["prepare"]
    assert stages_for(standin.root, "train@maml") == ["prepare", "train@maml"]
    assert stages_for(standin.root, "train") == ["prepare", "train@protonet", "train@maml"]
    assert stages_for(standin.root, "join") == ALL
    for name in ("joins", "", "train@"):
        with pytest.raises(MetaloomError, match=f"^there is no stage '{name}': dvc.yaml has prepare, train, join$"):
            stages_for(standin.root, name)


def test_the_stage_that_a_run_is_asked_for_is_looked_for_with_its_settings(standin, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the command adds the project
    monkeypatch.setattr(run, "_pipeline", lambda *_: pytest.fail("a server was started"))
    with pytest.raises(MetaloomError, match="^there is no stage 'train@maml'"):
        run.run("train@maml", set_=["methods=[protonet]"])


def test_a_new_stage_appears(standin):
    dag = yaml.safe_load((standin.root / "dvc.yaml").read_text())
    dag["stages"]["after"] = {"cmd": "cp join.txt after.txt", "deps": ["join.txt"], "outs": ["after.txt"]}
    (standin.root / "dvc.yaml").write_text(yaml.safe_dump(dag))
    assert stage_names(standin.root)[-1] == "after"


def test_ran_then_current(standin, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the root alone says which project
    assert set(go(standin.root).values()) == {"RAN"}
    assert standin.steps() == ["prepare.txt", "protonet.txt", "maml.txt"]
    assert all(is_current(standin.root, name) for name in ALL)
    assert set(go(standin.root).values()) == {"CURRENT"}
    assert standin.steps() == []
    assert standin.dvc("repro", "--dry").count("didn't change, skipping") == 5
    assert "Running stage" not in capfd.readouterr().out  # DVC's commentary


def test_current_after_dvc_repro(standin):
    standin.dvc("add", "-q", "data")
    standin.dvc("repro", "-q")
    assert all(is_current(standin.root, name) for name in ALL)


def test_overrides_reach_the_stage_and_the_params_file_stays(standin):
    before = (standin.root / "params.yaml").read_bytes()
    go(standin.root)
    plain = (standin.root / "join.txt").read_text()
    standin.steps()
    with overriding({"train.n_shot": 5}):
        assert [is_current(standin.root, name) for name in ALL[:3]] == [True, False, False]
        assert go(standin.root) == dict(zip(ALL, ["CURRENT", "RAN", "RAN", "RAN"], strict=True))
        assert standin.steps() == ["protonet.txt", "maml.txt"]
    lock = yaml.safe_load((standin.root / "dvc.lock").read_text())
    assert lock["stages"]["train@maml"]["params"]["params.yaml"]["train"]["n_shot"] == 5
    assert (standin.root / "maml.txt").read_text().endswith("5 28\n")
    assert (standin.root / "params.yaml").read_bytes() == before
    assert OVERRIDES not in os.environ

    restored = dict(zip(ALL, ["CURRENT", "RESTORED", "RESTORED", "RESTORED"], strict=True))
    assert go(standin.root) == restored
    assert standin.steps() == []
    assert (standin.root / "join.txt").read_text() == plain


@pytest.mark.parametrize(("command", "stays"), [("python -m metaloom.stages.nothing", True), ("false", False)])
def test_the_last_good_output_stays_when_a_stage_of_ours_fails(standin, command, stays):
    """DVC clears outputs before it starts a stage; of a stage that is none of ours it still does."""
    for each in ("echo good > out.txt", command):
        stage = {"cmd": each, "deps": ["step.py"], "outs": ["out.txt"]}
        (standin.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"one": stage}}))
        if each != command:
            assert reproduce(standin.root, "one").name == "RAN"
    with pytest.raises(MetaloomError, match="failed to run"):
        reproduce(standin.root, "one")
    assert (standin.root / "out.txt").exists() == stays


def test_overriding_a_matrix(standin):
    with overriding({"methods": ["maml"]}):
        assert stage_names(standin.root) == ["prepare", "train@maml", "join"]
    assert stage_names(standin.root) == ALL


def test_an_unknown_override_is_refused_with_the_known_ones(standin):
    with overriding({"train.nshot": 5}), pytest.raises(MetaloomError, match="did you mean n_shot"):
        stage_names(standin.root)


def test_a_mistake_in_the_dag_is_one_line(standin):
    (standin.root / "dvc.yaml").write_text("stages:\n  one:\n    comand: true\n")
    with pytest.raises(MetaloomError, match="dvc.yaml") as caught:
        stage_names(standin.root)
    assert "\n" not in str(caught.value)


def test_a_stage_in_its_own_process(standin):
    lines, errors = [], []
    version_dataset(standin.root)
    assert reproduce_in_child(standin.root, "prepare", lines.append, errors.append) is StageExit.RAN
    assert lines == ["stepping to prepare.txt"] and errors == []
    assert reproduce_in_child(standin.root, "prepare", lines.append, errors.append) is StageExit.CURRENT


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("bad", r"^stage prepare failed: data/bad is bad: remove it$"),
        (
            "broken",
            r"^stage prepare failed: ZeroDivisionError: a mistake in the code \(failed to run: python",
        ),
    ],
)
def test_a_failing_stage_says_why(standin, file, message):
    (standin.root / "data" / file).touch()
    version_dataset(standin.root)
    lines, errors = [], []
    with pytest.raises(MetaloomError, match=message):
        reproduce_in_child(standin.root, "prepare", lines.append, errors.append)
    assert not is_current(standin.root, "prepare")
    assert any("Traceback" in line for line in errors) == (file == "broken")


def test_another_dvc_command_at_work_is_named(standin):
    version_dataset(standin.root)
    (standin.root / "slow").touch()
    other = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-q"],
        cwd=standin.root,
        env=os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        standin.wait_for("maml.txt")
        with pytest.raises(BusyError, match=rf"process {other.pid} \(`.*dvc.*repro.*try again"):
            reproduce(standin.root, "train@maml")
        with pytest.raises(BusyError, match=rf"process {other.pid}"):
            reproduce_in_child(standin.root, "train@maml", print, print)
    finally:
        os.killpg(other.pid, 15)
        other.wait()


def test_a_stage_ends_with_whoever_started_it(standin):
    version_dataset(standin.root)
    for name in ALL[:2]:
        reproduce(standin.root, name)
    (standin.root / "slow").touch()
    code = "from metaloom.pipeline.child import reproduce_in_child\nreproduce_in_child('.', 'train@maml', print, print)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=standin.root)
    step = standin.wait_for("maml.txt")
    parent.kill()
    parent.wait()
    assert standin.ended(step)
    (standin.root / "slow").unlink()
    assert reproduce(standin.root, "train@maml") is StageExit.RAN


def test_the_root_is_found_from_below(standin, tmp_path):
    assert find_root(standin.root / "flows") == standin.root.resolve()
    with pytest.raises(MetaloomError, match=r"dvc.yaml and params.yaml"):
        find_root(tmp_path)
