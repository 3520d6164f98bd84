"""SIGKILL on the real tiny project: nothing is left half, and a rerun ends with the same hashes.

The slow tests kill at moments that are the same on every machine: when an output is whole and about to be moved into
place, or when a line is printed. The sweep kills after so many seconds, wherever that is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from projects import (
    environment,
    forget,
    hashes,
    metaloom,
    remove_outputs,
    run_here,
    stage_command,
)

DYING = """\
import os, pathlib, runpy, signal, sys

def dying(move):
    def wrapped(path, target):
        global left
        left -= str(target).endswith(place)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return move(path, target)
    return wrapped

place, left, module = sys.argv[1], int(sys.argv[2]), sys.argv[3]
pathlib.Path.rename, pathlib.Path.replace = dying(pathlib.Path.rename), dying(pathlib.Path.replace)
del sys.argv[:3]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def kill_at_move(root: Path, stage: str, arguments: list[str], place: str, count: int = 1) -> None:
    """Run a stage that is killed when something is about to be moved to a place for the `count`-th time."""
    command = [sys.executable, "-c", DYING, place, str(count), f"metaloom.stages.{stage}", *arguments]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def kill_after(root: Path, stage: str, arguments: list[str], seconds: float) -> None:
    """Start a stage and SIGKILL it and its children after so many seconds, if it is still there."""
    command = [sys.executable, "-m", f"metaloom.stages.{stage}", *arguments]
    process = subprocess.Popen(command, cwd=root, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def assert_a_rerun_ends_the_same(root: Path, stage: str, kill: Callable[[str, list[str]], None]) -> None:
    expected = hashes(root)
    module, arguments = stage_command(root, stage)
    remove_outputs(root, stage)
    kill(module, arguments)
    run_here(root, "dvc", "repro", "-f", "-s", stage)
    assert hashes(root) == expected
    assert leftovers(root) == []


PLACES = [  # of outputs that are whole, and do not get there
    ("train@maml", "metrics/training/maml.json"),
    ("export", "artifacts/bundle"),
]
OTHERS = [  # of the other stages, of several outputs, and of a method that another stands for
    ("prepare", "artifacts/dataset"),
    ("embed", "artifacts/embedded"),
    ("plan", "splits.yaml"),
    ("split", "artifacts/splits"),
    ("pretrain", "artifacts/pretrained"),
    ("tune", "artifacts/baselines.json"),
    ("evaluate", "metrics/evaluation.json"),
    ("report", "report"),
    ("plan", "artifacts/plan.json"),
    ("train@protonet", "checkpoints/protonet.safetensors"),
    ("evaluate", "artifacts/evaluation"),
]


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        *(pytest.param(*each, marks=pytest.mark.slow) for each in PLACES),
        *(pytest.param(*each, marks=pytest.mark.sweep) for each in OTHERS),
    ],
)
def test_a_stage_killed_between_its_outputs_leaves_nothing_half_and_a_rerun_ends_the_same(copied, stage, place):
    assert_a_rerun_ends_the_same(copied, stage, lambda *of_stage: kill_at_move(copied, *of_stage, place))


SECONDS = [  # after its start, in its imports and in its work
    ("prepare", 0.5),
    ("prepare", 1.5),
    ("plan", 1.0),
    ("split", 1.5),
    ("train@protonet", 3.5),
    ("train@maml", 5.0),
    ("pretrain", 4.0),
    ("tune", 4.0),
    ("tune", 7.0),
    ("evaluate", 3.5),
    ("evaluate", 6.0),
    ("evaluate", 9.0),
    ("export", 4.0),
    ("export", 7.0),
    ("report", 0.7),
    ("report", 1.2),
]


@pytest.mark.sweep
@pytest.mark.parametrize(("stage", "seconds"), SECONDS)
def test_a_stage_killed_at_any_time_leaves_nothing_half_and_a_rerun_ends_the_same(copied, stage, seconds):
    assert_a_rerun_ends_the_same(copied, stage, lambda *of_stage: kill_after(copied, *of_stage, seconds))


@pytest.mark.slow
def test_training_killed_after_a_checkpoint_goes_on_from_it(copied):
    expected = hashes(copied)
    module, arguments = stage_command(copied, "train@maml")
    checkpoint = copied / ".metaloom/checkpoints/maml.safetensors"
    kill_at_move(copied, module, arguments, "checkpoints/maml.safetensors", count=2)
    assert checkpoint.exists()
    run_here(copied, "dvc", "repro", "-f", "-s", "train@maml")
    assert hashes(copied) == expected
    assert not checkpoint.exists()


def leftovers(root: Path) -> list[Path]:
    """Temporary files and folders beside outputs."""
    places = [root, *(path for name in ("artifacts", "metrics") for path in (root / name).rglob("*") if path.is_dir())]
    return [path for place in places for path in place.glob(".*") if path.suffix in (".new", ".old")]


def kill_run(root: Path, line: str, seconds: float = 0.0) -> None:
    """Start `metaloom run`, and kill it and all that it started so many seconds after it prints the line."""
    process = psutil.Popen(
        ["metaloom", "run"], cwd=root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    printed = []
    for each in process.stdout:
        printed.append(each)
        if each.startswith(line):
            break
    time.sleep(seconds)
    kill_all(process)
    assert process.wait() == -signal.SIGKILL, "".join(printed)


def kill_all(process: psutil.Popen) -> None:
    processes = [process, *process.children(recursive=True)]
    for each in processes:
        each.kill()
    psutil.wait_procs(processes, timeout=20)


def assert_another_run_ends_the_same(
    root: Path, server: dict[str, str], stage: str, line: str, seconds: float = 0.0
) -> None:
    expected = hashes(root)
    forget(root, stage)
    kill_run(root, line, seconds)
    metaloom(root, "run", **server)
    assert hashes(root) == expected
    assert leftovers(root) == []
    assert "up to date" in run_here(root, "dvc", "repro").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "line"),
    [
        pytest.param("train@protonet", "train@protonet", marks=pytest.mark.sweep),  # it begins
        ("train@maml", "  maml:"),  # it is done, and DVC is about to hash and record what it wrote
    ],
)
def test_a_run_killed_with_all_its_processes_and_run_again_ends_the_same(copied, prefect_server, stage, line):
    assert_another_run_ends_the_same(copied, prefect_server, stage, line)


@pytest.mark.sweep
@pytest.mark.parametrize(("stage", "seconds"), [("train@protonet", 4.0), ("evaluate", 6.0), ("report", 1.5)])
def test_a_run_killed_in_a_stage_and_run_again_ends_the_same(copied, prefect_server, stage, seconds):
    assert_another_run_ends_the_same(copied, prefect_server, stage, stage, seconds)


@pytest.mark.slow
def test_a_run_killed_before_its_first_stage(copied, prefect_server):
    before, holder = (copied / "dvc.lock").read_bytes(), copied / ".metaloom/holder.json"
    holder.unlink(missing_ok=True)
    process = psutil.Popen(["metaloom", "run"], cwd=copied, env=environment(), stdout=subprocess.DEVNULL)
    while not holder.exists() and process.poll() is None:
        time.sleep(0.01)
    kill_all(process)
    assert process.wait() == -signal.SIGKILL
    assert "everything was cached" in metaloom(copied, "run", **prefect_server).stdout
    assert (copied / "dvc.lock").read_bytes() == before
