"""A stand-in project whose stages take milliseconds, whose flows report to a real Prefect server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import together

from metaloom.cli.prefect_server import ENVIRONMENT

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # flows/ is no part of the installed package

METALOOM = """\
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, as tests may be, ignores Ctrl-C
from metaloom.cli.app import main
main()
"""

DAG = """\
stages:
  join:                      # first here, last in the graph
    cmd: cat protonet.txt maml.txt > join.txt && echo joined
    deps: [protonet.txt, maml.txt]
    outs: [join.txt]
  prepare:
    cmd: python step.py data prepare.txt
    deps: [data, step.py]
    params: [prepare]
    outs: [prepare.txt]
  train:
    matrix:
      method: ${methods}
    cmd: python step.py prepare.txt ${item.method}.txt
    deps: [prepare.txt, step.py]
    params: [train]
    outs: ["${item.method}.txt"]
"""

STEP = """\
import os, sys, time
from pathlib import Path
from metaloom.config import load_settings
from metaloom.errors import MetaloomError
from metaloom.stages import run_stage

def main(source, destination):
    settings = load_settings()
    print("stepping to", destination, flush=True)
    home = Path(str(Path.cwd()).split("/.metaloom/")[0])  # a retraining works in a worktree below it
    with open(home / "steps.log", "a") as log:
        log.write(f"{destination} {os.getpid()}\\n")
    if Path("data/bad").exists() and destination == "prepare.txt":
        raise MetaloomError("data/bad is bad: remove it")
    if Path("data/broken").exists():
        raise ZeroDivisionError("a mistake in the code")
    while (home / "slow").exists() and destination == "maml.txt":
        time.sleep(0.5)
    inputs = sorted(Path(source).iterdir()) if Path(source).is_dir() else [Path(source)]
    text = "".join(path.read_text() for path in inputs)
    Path(destination).write_text(f"{text}{settings.train.n_shot} {settings.pictures.image_size}\\n")

run_stage(main)
"""


PATIENCE = 300.0  # seconds for what takes a few on a machine with nothing else to do


class Standin:
    """The project in `root`."""

    def __init__(self, root: Path, environment: dict[str, str] | None = None) -> None:
        self.root = root
        self.environment = environment or {}
        self.started: list[subprocess.Popen[str]] = []

    def dvc(self, *arguments: str) -> str:
        return self.call(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        return self.call("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments)

    def call(self, *command: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str, stderr: int = subprocess.PIPE, **more: str) -> subprocess.Popen[str]:
        """`metaloom ARGUMENTS` as a user whose environment is not activated would have it."""
        env = {**os.environ, "PATH": "/usr/bin:/bin"}
        env.pop("PREFECT_API_URL", None)  # of the flows called in this process
        env |= self.environment | more
        process = subprocess.Popen(
            [sys.executable, "-c", METALOOM, *arguments],
            cwd=self.root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,  # so that a test can signal the group, as a terminal does
        )
        self.started.append(process)
        return process

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def steps(self) -> list[str]:
        """What the stages wrote since the last call, in the order in which they ran."""
        log = self.root / "steps.log"
        if not log.exists():
            return []
        lines = log.read_text().splitlines()
        log.unlink()
        return [line.split()[0] for line in lines]

    def wait_for(self, step: str) -> int:
        """The process that runs the step, as soon as there is one."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            log = self.root / "steps.log"
            for line in log.read_text().splitlines() if log.exists() else []:
                if line.startswith(step):
                    return int(line.split()[1])
            time.sleep(0.05)
        raise TimeoutError(step)

    def ended(self, pid: int, seconds: float = 60.0) -> bool:
        """Whether the process goes away (or only its parent has yet to hear of it)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return True
            except psutil.NoSuchProcess:
                return True
            time.sleep(0.05)
        return False


@pytest.fixture(scope="session")
def standin_template() -> Path:
    return together.once("standin", _make_standin)


def _make_standin(root: Path) -> None:
    standin = Standin(root)
    (root / "dvc.yaml").write_text(DAG)
    (root / "step.py").write_text(STEP)
    (root / ".gitignore").write_text("/data\n/.metaloom/\n/*.txt\n__pycache__/\nsteps.log\nslow\n")
    for name in ("params.yaml", "prefect.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    standin.git("init", "-q", ".")
    standin.dvc("init", "-q", "-f")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    (root / "data").mkdir()
    (root / "data/a").write_text("1\n")
    standin.git("add", "-A", ".")
    standin.git("commit", "-qm", "start")


@pytest.fixture
def standin(standin_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """prepare → train@protonet, train@maml → join, over a data/ of one file."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    root = tmp_path / "project"
    shutil.copytree(standin_template, root, symlinks=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    standin = Standin(root)
    yield standin
    for process in standin.started:
        process.kill()
        process.communicate(timeout=60)


@pytest.fixture(scope="session")
def prefect(prefect_server: dict[str, str]):
    """Flows called in this process report to the server, as do Prefect's own threads."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | prefect_server).items():
            patch.setenv(name, value)
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()  # in case that something imported Prefect before
        yield
    refresh_global_settings_context()


@pytest.fixture
def served(standin: Standin, prefect: None, prefect_server: dict[str, str]) -> Standin:
    """The stand-in, whose commands report to the server."""
    standin.environment = prefect_server
    return standin
