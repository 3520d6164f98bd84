"""The disk gets full in a step of a night: a person is told, nothing is lost, and the night after freeing is whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nights import Receiver
from test_loop_faults import STEPS, assert_whole

from metaloom.errors import MetaloomError
from metaloom.retraining import steps

SIZE = 64  # MiB


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, for the project and both remotes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "none", place], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    free = os.statvfs(disk)
    with (disk / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_the_night_after_a_full_disk_is_whole(shared, receiver, tmp_path, monkeypatch, step):
    shared.set(notify=f"http://127.0.0.1:{receiver.server_port}/hook")
    shared.git("push", "-q")
    plain = getattr(steps, step)

    def filled(*arguments):
        fill(tmp_path)
        plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(steps, step, filled)
        with pytest.raises(MetaloomError) as refused:
            shared.night()
    said = str(refused.value)
    assert "the disk has 0 B left" in said or "the disk is full" in said
    (told,) = Receiver.taken
    assert told["cause"] == "failed" and told["message"] == f"retraining failed: {said}"
    (tmp_path / "ballast").unlink()
    assert shared.git("status", "--porcelain") == "" and shared.tags() == []
    shared.clock -= 20 * 3600  # the same date
    assert shared.night().state == "Completed"
    assert_whole(shared, tmp_path / "origin.git")
    assert [each["cause"] for each in Receiver.taken] == ["failed", "promoted"]
