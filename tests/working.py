"""Process workers in folders of their own, a Prefect server on PostgreSQL, one bare repository, one DVC remote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil
import pytest
import together
from filelock import FileLock
from postgres import Postgres, program
from projects import REPO, block, environment, free_port, run_here
from server import start
from serving import final_state
from standins import PATIENCE

from metaloom.cli.init import ENTRYPOINT
from metaloom.cli.prefect_server import ENVIRONMENT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL, DEPLOYMENT = "metaloom-workers", "retrain/retrain-workers"
LOST = "name: runs whose worker is lost"  # the automation of docs/scheduling.md
HANDOVER = "handover: 0.02"  # minutes
QUICK = {"PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1"}

PREPARE = """\
stages:
  prepare:
    cmd: python step.py data prepared.txt
    deps: [data, step.py]
    outs: [prepared.txt]
"""
DAG = f"""\
{PREPARE}\
  train:
    cmd: python step.py prepared.txt model.txt
    deps: [prepared.txt, step.py]
    params: [protonet.steps]
    outs: [model.txt]
  export:
    cmd: rm -rf artifacts/bundle && mkdir -p artifacts && cp -r bundle artifacts/bundle && cp model.txt metrics.json
    deps: [model.txt, bundle]
    outs: [artifacts/bundle]
    metrics:
      - metrics.json: {{cache: false}}
artifacts:
  handoff: {{path: artifacts/bundle, type: model}}
"""

STEP = """\
import os, sys, time
from pathlib import Path
from metaloom.stages import run_stage

TOLD = Path(os.environ["WORKERS"])
CHECKPOINT = Path(".metaloom/checkpoints/train.safetensors")

def main(source, destination):
    began = int(CHECKPOINT.read_text()) if destination == "model.txt" and CHECKPOINT.exists() else 0
    with open(TOLD / "steps.log", "a") as log:
        log.write(f"{destination} {began} {os.getpid()} {Path.cwd()}\\n")
    step = began
    while destination == "model.txt" and (TOLD / "slow").exists():
        step += 1
        CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
        new = CHECKPOINT.with_suffix(".new")
        new.write_text(str(step))
        new.rename(CHECKPOINT)
        time.sleep(0.2)
    inputs = sorted(Path(source).iterdir()) if Path(source).is_dir() else [Path(source)]
    Path(destination).write_text("".join(path.read_text() for path in inputs))
    CHECKPOINT.unlink(missing_ok=True)

run_stage(main)
"""

METHODS = ("protonet", "ridge", "maml")
METHODS_DAG = f"""\
{PREPARE}\
  train:
    matrix: {{method: [protonet, ridge, maml]}}
    cmd: python step.py prepared.txt ${{item.method}}.txt
    deps: [prepared.txt, step.py]
    outs:
      - "${{item.method}}.txt": {{persist: true}}
    metrics:
      - "${{item.method}}.json": {{cache: false}}
  join:
    cmd: cat protonet.txt ridge.txt maml.txt > join.txt
    deps: [protonet.txt, ridge.txt, maml.txt]
    outs: [join.txt]
"""
METHODS_STEP = """\
import os, sys, time
from pathlib import Path
from metaloom.stages import run_stage

TOLD = Path(os.environ["WORKERS"])

def main(source, destination):
    checkpoint = Path(".metaloom/checkpoints", destination).with_suffix(".safetensors")
    began = int(checkpoint.read_text()) if checkpoint.exists() else 0
    with open(TOLD / "steps.log", "a") as log:
        log.write(f"{destination} {began} {os.getpid()} {Path.cwd()}\\n")
    step = began
    while (TOLD / f"slow-{destination}").exists():
        step += 1
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        new = checkpoint.with_suffix(".new")
        new.write_text(str(step))
        new.rename(checkpoint)
        time.sleep(0.2)
    inputs = sorted(Path(source).iterdir()) if Path(source).is_dir() else [Path(source)]
    Path(destination).write_text(destination + "".join(path.read_text() for path in inputs))
    if destination != "prepared.txt":
        Path(destination).with_suffix(".json").write_text('{"loss": 0.5}')
    checkpoint.unlink(missing_ok=True)

run_stage(main)
"""


def cluster(home: Path) -> None:
    """PostgreSQL, a Prefect server on it, a pool, and the automation that marks runs of lost workers."""
    together.folder().chmod(0o711)  # it is our user's alone, and PostgreSQL may be another's
    (home / "postgres").mkdir()
    database = Postgres(home / "postgres", free_port())
    database.make()
    database.start()
    start(home, PREFECT_API_DATABASE_CONNECTION_URL=database.url, **QUICK)
    (home / "port").write_text(str(database.port))
    reached = json.loads((home / "environment.json").read_text())
    (home / "lost.yaml").write_text(block("scheduling.md", LOST).replace("within: 90", "within: 40"))
    run_here(home, "prefect", "--no-prompt", "work-pool", "create", "--type", "process", POOL, **reached)
    run_here(home, "prefect", "--no-prompt", "automation", "create", "--from-file", "lost.yaml", **reached)


class Workers:
    """A project in a bare repository and a DVC remote, and whoever works on it; all below `home`."""

    def __init__(
        self, home: Path, environment: dict[str, str], postgres: Postgres | None, dag: str = DAG, step: str = STEP
    ) -> None:
        self.home, self.postgres, self.dag, self.step = home, postgres, dag, step
        self.here, self.origin = home / "here", home / "origin.git"
        self.environment = {**environment, "WORKERS": str(home), "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'src'}"}
        self.started: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str, root: Path | None = None) -> str:
        return run_here(root or self.here, *command, **self.environment).stdout

    def git(self, *arguments: str) -> str:
        """In the bare repository."""
        return self.run("git", *arguments, root=self.origin).strip()

    def make(self, bundle: Path | None = None, **remote: str) -> None:
        """The project, whose model is what data/ says, with a bundle that verifies.

        Args:
            bundle: the one; None: the project has none.
            remote: of DVC, its options; none: a folder.
        """
        self.here.mkdir(exist_ok=True)
        (self.here / "dvc.yaml").write_text(self.dag)
        (self.here / "step.py").write_text(self.step)
        (self.here / ".gitignore").write_text("/data\n/.metaloom/\n/artifacts/\n/*.txt\n")
        if not (self.here / "params.yaml").exists():
            shutil.copy(REPO / "params.yaml", self.here)
        deployments = re.sub(*ENTRYPOINT, (REPO / "prefect.yaml").read_text()).replace("handover: 10", HANDOVER)
        (self.here / "prefect.yaml").write_text(deployments)
        if bundle:
            shutil.copytree(bundle, self.here / "bundle")
        self.run("git", "init", "-q", "-b", "main")
        self.run("git", "init", "-q", "--bare", "-b", "main", str(self.origin))
        self.run("dvc", "init", "-q")
        remote = {"url": str(self.home / "store"), **remote}
        self.run("dvc", "remote", "add", "-q", "-d", "there", remote.pop("url"))
        for name, value in remote.items():
            self.run("dvc", "remote", "modify", "there", name, value)
        self.run("git", "remote", "add", "origin", str(self.origin))
        self.data("1")

    def data(self, text: str) -> None:
        """Push a new version of data/."""
        (self.here / "data").mkdir(exist_ok=True)
        (self.here / "data/a").write_text(f'{{"accuracy": {text}}}')
        self.run("dvc", "add", "-q", "data")
        self.run("dvc", "push", "-q")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", f"data {text}")
        self.run("git", "push", "-q", "-u", "origin", "main")

    def work(self, name: str) -> subprocess.Popen[bytes]:
        """A worker in a folder of its own."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--limit", "1", "--name", name]
        command += ["--install-policy", "never"]
        env = environment() | ENVIRONMENT | self.environment
        with open(folder / "log", "ab") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def steps(self) -> list[tuple[str, int, str]]:
        """Of each step that ran: what it wrote, where it went on from, and whose it was."""
        log = self.home / "steps.log"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [(name, int(began), Path(cwd).relative_to(self.home).parts[0]) for name, began, _, cwd in lines]

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """As if its machine were gone: with the flow's process and the stage's."""
        process = psutil.Process(worker.pid)
        for each in (*process.children(recursive=True), process):
            each.kill()
        worker.wait()

    def outcome(self, client, run: UUID) -> str:
        try:
            return str(final_state(client, run).name)
        except TimeoutError:
            logs = {path.parent.name: path.read_text()[-3000:] for path in self.home.glob("*/log")}
            raise TimeoutError(json.dumps(logs, indent=1)) from None

    def ended(self, client, but: UUID) -> list[str]:
        """The states of all runs of the deployment that have ended, but of one."""
        deployment = client.read_deployment_by_name(DEPLOYMENT).id
        runs = [run for run in client.read_flow_runs() if run.deployment_id == deployment and run.id != but]
        return [run.state.name for run in runs if run.state.is_final()]

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                self.kill(process)


@contextmanager
def at_work(
    home: Path,
    deployed: Sequence[str],
    bundle: Path | None = None,
    credentials: dict[str, str] | None = None,
    remote: dict[str, str] | None = None,
    **project: str,
) -> Iterator[Workers]:
    """A project with deployments on the server of the test run, which one test has at a time; nobody works on it yet.

    Args:
        home: a folder for all of it.
        deployed: the deployments, by their names in prefect.yaml.
        bundle: see `Workers.make`.
        credentials: for the remote, in everybody's environment.
        remote: of DVC, its options; none: a folder.
        project: further arguments of `Workers`.
    """
    if not program("initdb"):
        pytest.skip("PostgreSQL is absent")
    server = together.once("workers", cluster)
    with FileLock(together.folder() / "workers.lock"):
        postgres = Postgres(server / "postgres", int((server / "port").read_text()))
        environment = json.loads((server / "environment.json").read_text()) | (credentials or {})
        made = Workers(home, environment, postgres, **project)
        made.make(bundle, **(remote or {}))
        for name in deployed:
            made.run("prefect", "--no-prompt", "deploy", "--name", name)
        yield made
        made.end()


@contextmanager
def client_of(workers: Workers, *deployments: str) -> Iterator[SyncPrefectClient]:
    """Of the server on PostgreSQL; the deployments are gone afterwards."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(workers.environment["PREFECT_API_URL"]) as client:
        yield client
        for name in deployments:
            client.delete_deployment(client.read_deployment_by_name(name).id)


def until(found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What is found in the end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.1)
    raise TimeoutError(found)
