"""SIGKILL at many moments, on the real tiny project: nothing is left half, and a rerun ends with the same hashes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from projects import environment, hashes, lasting, locked_stages, metaloom, run_here, stage_command

pytestmark = pytest.mark.slow


def kill_when(root: Path, stage: str, arguments: list[str], moment: float | Path) -> None:
    """Start a stage and SIGKILL it after so many seconds, or as soon as a file is there."""
    command = [sys.executable, "-m", f"metaloom.stages.{stage}", *arguments]
    process = subprocess.Popen(command, cwd=root, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + (moment if isinstance(moment, float) else 60)
    while time.monotonic() < deadline and process.poll() is None:
        if isinstance(moment, Path) and moment.exists():
            break
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def remove_outputs(root: Path, stage: str) -> None:
    for out in locked_stages(root)[stage]["outs"]:
        target = root / out["path"]
        shutil.rmtree(target) if target.is_dir() else target.unlink()


MOMENTS = [  # seconds after its start, in its imports and in its work
    ("prepare", 0.5),
    ("prepare", 1.5),
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


@pytest.mark.parametrize(("stage", "moment"), MOMENTS)
def test_a_killed_stage_leaves_nothing_half_and_a_rerun_ends_the_same(copied, stage, moment):
    compared = hashes if stage == "report" else lasting  # the page holds times, but only those of earlier stages
    expected = compared(copied)
    module, arguments = stage_command(copied, stage)
    remove_outputs(copied, stage)
    kill_when(copied, module, arguments, moment)
    run_here(copied, "dvc", "repro", "-f", "-s", stage)
    assert compared(copied) == expected
    assert leftovers(copied) == []


def test_training_killed_after_a_checkpoint_goes_on_from_it(copied):
    expected = lasting(copied)
    module, arguments = stage_command(copied, "train@maml")
    checkpoint = copied / ".metaloom/checkpoints/maml.safetensors"
    kill_when(copied, module, arguments, checkpoint)
    assert checkpoint.exists()
    run_here(copied, "dvc", "repro", "-f", "-s", "train@maml")
    assert lasting(copied) == expected
    assert not checkpoint.exists()


def leftovers(root: Path) -> list[Path]:
    """Temporary files and folders beside outputs."""
    places = [root, *(path for name in ("artifacts", "metrics") for path in (root / name).rglob("*") if path.is_dir())]
    return [path for place in places for path in place.glob(".*") if path.suffix in (".new", ".old")]


def forget(root: Path, stage: str) -> None:
    """Have the stage run anew: neither its outputs nor dvc.lock nor DVC's run cache knows of it."""
    remove_outputs(root, stage)
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    del lock["stages"][stage]
    (root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(root / ".dvc/cache/runs")


def kill_run(root: Path, line: str | None, seconds: float) -> None:
    """SIGKILL for all processes of `metaloom run`, so long after it printed a line that begins like this (or began)."""
    process = psutil.Popen(
        ["metaloom", "run"], cwd=root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    printed = []
    for each in process.stdout if line is not None else ():
        printed.append(each)
        if each.startswith(line):
            break
    time.sleep(seconds)
    processes = [process, *process.children(recursive=True)]
    for each in processes:
        each.kill()
    psutil.wait_procs(processes, timeout=20)
    assert process.wait() == -signal.SIGKILL, "".join(printed)


RUN_MOMENTS = [  # stage to run anew, line to wait for, seconds after it
    ("train@protonet", "train@protonet", 4.0),
    ("train@maml", "  maml:", 0.0),  # it is done, and DVC is about to hash and record what it wrote
    ("evaluate", "evaluate", 6.0),
    ("report", "report", 1.5),
]


@pytest.mark.parametrize(("stage", "line", "seconds"), RUN_MOMENTS)
def test_a_run_killed_with_all_its_processes_and_run_again_ends_the_same(copied, stage, line, seconds):
    expected = lasting(copied)
    forget(copied, stage)
    kill_run(copied, line, seconds)
    metaloom(copied, "run")
    assert lasting(copied) == expected
    assert leftovers(copied) == []
    assert "up to date" in run_here(copied, "dvc", "repro").stdout


def test_a_run_killed_before_its_first_stage(copied):
    before = (copied / "dvc.lock").read_bytes()
    kill_run(copied, None, 3.0)
    assert "everything was cached" in metaloom(copied, "run").stdout
    assert (copied / "dvc.lock").read_bytes() == before
