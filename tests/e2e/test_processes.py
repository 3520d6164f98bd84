"""The train stage in two processes: as dvc.yaml calls it, killed, and run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from projects import REPO, make_project, plan_for_plenty, run_here

from metaloom.config import OVERRIDES
from metaloom.system.times import noted_times

FOLDERS = ["artifacts/dataset", "artifacts/splits", "artifacts/plan.json"]
TRAIN = [sys.executable, "-m", "metaloom.stages.train", "protonet", *FOLDERS]
CHECKPOINT = Path(".metaloom/checkpoints/protonet.safetensors")


@pytest.fixture
def two(tmp_path, shapes, monkeypatch) -> Path:
    """A project that trains in two processes."""
    monkeypatch.setenv("PYTHONPATH", str(REPO / "src"))
    shared = {f"{name}.tasks_per_step": 2 for name in ("protonet", "maml", "pretrain")}
    return make_project(tmp_path, shapes, {"train.processes": 2, "protonet.steps": 60, **shared})


@pytest.fixture
def prepared(two) -> Path:
    """The same with its data prepared and split."""
    run_here(two, sys.executable, "-m", "metaloom.stages.prepare", "data", "artifacts/dataset")
    run_here(two, sys.executable, "-m", "metaloom.stages.plan", FOLDERS[0], "budget.yaml", FOLDERS[2], "splits.yaml")
    run_here(two, sys.executable, "-m", "metaloom.stages.split", FOLDERS[0], FOLDERS[2], "splits.yaml", FOLDERS[1])
    return two


def outputs(name: str) -> list[str]:
    return [f"artifacts/models/{name}", f"metrics/training/{name}.json"]


@pytest.mark.sweep
def test_a_killed_stage_leaves_no_process_and_goes_on_from_its_checkpoint(prepared):
    done = run_here(prepared, *TRAIN, *outputs("whole"))
    assert done.stdout.count("protonet:") == 1, done.stdout  # from the first process alone
    weights = prepared / "artifacts/models/whole/model.safetensors"
    assert noted_times(prepared, "protonet", weights)["threads"] >= 2

    stage = subprocess.Popen([*TRAIN, *outputs("resumed")], cwd=prepared)
    while not (prepared / CHECKPOINT).exists():
        assert stage.poll() is None
        time.sleep(0.01)
    started = psutil.Process(stage.pid).children(recursive=True)
    stage.kill()
    stage.wait()
    assert len(started) >= 3  # torchrun and two processes
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive

    assert (prepared / CHECKPOINT).exists()
    run_here(prepared, *TRAIN, *outputs("resumed"))
    whole, resumed = (prepared / "artifacts/models" / name for name in ("whole", "resumed"))
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert (whole / "metrics.json").read_text() == (resumed / "metrics.json").read_text()
    assert not (prepared / CHECKPOINT).exists()


@pytest.mark.slow
def test_tasks_that_cannot_be_shared_out_are_refused_before_anything_starts(two, monkeypatch):
    (two / "artifacts").mkdir()
    plan_for_plenty(two / "artifacts")
    monkeypatch.setenv(OVERRIDES, json.dumps({"protonet.tasks_per_step": 3}))
    done = run_here(two, *TRAIN, *outputs("none"), check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: params.yaml: protonet.tasks_per_step is 3, which 2 processes (train.processes) cannot share out "
        "equally; the nearest that works is 4"
    )
    assert not os.path.exists(two / "artifacts/models/none")
