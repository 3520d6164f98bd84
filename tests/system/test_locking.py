from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from metaloom.system.lock import BusyError, project_lock

HOLD = """\
import time
from metaloom.system.lock import project_lock
with project_lock("."):
    print("held", flush=True)
    time.sleep({seconds})
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock for so many seconds."""
    running = []

    def hold(seconds: float) -> subprocess.Popen[str]:
        code = HOLD.format(seconds=seconds)
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in running:
        process.kill()
        process.communicate()


def test_the_holder_is_named(tmp_path, other):
    pid = other(30).pid
    started = time.monotonic()
    message = rf"process {pid} on .*, `-c`, since 20\d\d-.*--wait SECONDS"
    with pytest.raises(BusyError, match=message), project_lock(tmp_path):
        pass
    assert time.monotonic() - started < 1


def test_waiting(tmp_path, other, capsys):
    pid = other(1).pid
    with project_lock(tmp_path, wait=20):
        pass
    assert capsys.readouterr().out.startswith(f"waiting for process {pid} on ")


def test_waiting_in_vain(tmp_path, other):
    other(30)
    with pytest.raises(BusyError, match=re.escape("(waited 0.3 s)")), project_lock(tmp_path, wait=0.3):
        pass


def test_a_killed_holder_does_not_stand_in_the_way(tmp_path, other):
    process = other(30)
    process.kill()
    process.wait()
    with project_lock(tmp_path):
        pass


def test_one_process_may_hold_it_twice(tmp_path, other):
    with project_lock(tmp_path):
        with project_lock(tmp_path):
            pass
        with pytest.raises(AssertionError):  # the inner one did not let go of it
            other(1)
    other(1)
