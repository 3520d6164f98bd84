"""`metaloom fleet` as a user calls it, through a real Prefect server."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from projects import environment, metaloom, run_here
from typer.testing import CliRunner

from metaloom.cli.fleet import fleet
from metaloom.errors import MetaloomError
from metaloom.handoff.shipped.verify import verify

pytestmark = pytest.mark.slow

TASKS = 24


@pytest.fixture(scope="module")
def tasks(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks, one of which has a single class."""
    folder = tmp_path_factory.mktemp("tasks")
    for task in range(TASKS):
        shutil.copytree(shapes / f"domain{task % 10}", folder / f"task{task:02}")
    for name in ("class1", "class2", "class3"):
        shutil.rmtree(folder / "task15" / name)
    return folder


def test_a_killed_fleet_goes_on_where_it_was(copied: Path, tasks: Path, prefect_server: dict, tmp_path: Path):
    out = tmp_path / "out"
    command = ["metaloom", "fleet", str(tasks), "--out", str(out)]
    env = environment() | prefect_server
    process = subprocess.Popen(command, cwd=copied, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(out.glob("task*"))) < 5 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    reached = len(list(out.glob("task*")))
    assert 5 <= reached < TASKS - 1
    assert all(not verify(bundle, with_onnx=False).problems for bundle in out.glob("task*"))  # whole, or not there
    done = metaloom(copied, "fleet", str(tasks), "--out", str(out), "--workers", "2", check=False, **prefect_server)
    assert done.returncode == 1
    assert done.stderr.startswith("failed: task15: ") and done.stderr.count("\n") == 1
    assert f"{TASKS} tasks: {TASKS - 1 - reached} made, {reached} kept, 1 failed" in done.stdout
    listed = json.loads((out / "fleet.json").read_text())["tasks"]
    assert [each["task"] for each in listed if each["status"] == "failed"] == ["task15"] and len(listed) == TASKS
    assert not list(out.glob(".*"))


def test_one_bundle_for_all(copied: Path, tasks: Path, tmp_path: Path):
    few = a_few(tasks, tmp_path)
    (copied / "near").mkdir()
    shutil.copytree(few, copied / "near/few")
    done = run_here(copied / "near", "metaloom", "fleet", "few", "--out", "all", "--shared")
    assert done.stdout.splitlines()[-1] == "all"
    shutil.move(copied / "near/all", tmp_path / "all")
    made = json.loads((tmp_path / "all/fleet.json").read_text())["tasks"]
    assert [(each["task"], each["status"]) for each in made] == [("task01", "made"), ("task02", "made")]
    assert "2 tasks: 2 made" in done.stdout and "a model.onnx each would be" in done.stdout
    assert not verify(tmp_path / "all").problems


def a_few(tasks: Path, folder: Path) -> Path:
    for name in ("task01", "task02"):
        shutil.copytree(tasks / name, folder / "few" / name)
    return folder / "few"


def test_what_is_no_place_for_a_fleet_is_refused(
    copied: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    few = a_few(tasks, tmp_path)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/SHA256SUMS").touch()
    monkeypatch.chdir(copied)
    for arguments, words in (
        ([str(tmp_path / "none"), "--out", "x"], "has no folder"),
        ([str(few), "--out", str(tmp_path / "bundle")], "is a bundle: choose a folder"),
        ([str(few), "--out", str(few), "--shared"], "is no bundle of a fleet"),
    ):
        assert words in refusal(arguments)


def refusal(arguments: list[str]) -> str:
    """What `metaloom fleet` says of a mistake, called in this process."""
    command = typer.Typer()
    command.command()(fleet)
    refused = CliRunner().invoke(command, arguments)
    assert isinstance(refused.exception, MetaloomError), refused.output
    assert "\n" not in str(refused.exception)
    return str(refused.exception)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "svm"], "no meta-learner 'svm': there are maml, protonet"),
        (["--runner", "slurm"], "choose one of process, dask, ray"),
        (["--runner", "ray"], "prefect-ray is not installed: `pip install 'metaloom[ray]'`"),
    ],
)
def test_bad_options_are_refused(
    copied: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
):
    few = a_few(tasks, tmp_path)
    monkeypatch.chdir(copied)
    monkeypatch.setattr("metaloom.cli.prefect_server.prefect_server", lambda root: SimpleNamespace(wait=lambda: None))
    assert words in refusal([str(few), "--out", str(tmp_path / "x"), *options])
    assert not (tmp_path / "x").exists()
