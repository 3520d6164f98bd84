"""What a process starts through others ends with it."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from metaloom.system.lifeline import RUNNER

STAGE = (
    "import time; from metaloom.system.lifeline import end_with_runner; end_with_runner(); print(1); time.sleep(300)"
)
RUN = f"""
import subprocess, sys, time
from metaloom.system.lifeline import name_runner
name_runner()
command = [sys.executable, "-u", "-c", {STAGE!r}]
stage = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
stage.stdout.readline()
print(stage.pid, flush=True)
time.sleep(300)
"""


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.delenv(RUNNER, raising=False)


def test_a_stage_ends_with_what_runs_it_however_that_ends(plain):
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    stage = psutil.Process(int(run.stdout.readline()))
    try:
        run.kill()
        run.communicate()
        assert psutil.wait_procs([stage], timeout=30)[1] == []
    finally:
        if stage.is_running():
            stage.kill()


def test_one_that_is_started_by_hand_has_none(plain):
    done = subprocess.run([sys.executable, "-c", STAGE.replace("300", "2")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n")
