"""Nights of a project whose model is what its data say: retrainings without training, Prefect and torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, tzinfo
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from projects import GIT_IDENTITY, REPO

from metaloom.cli import shadow
from metaloom.cli.app import app
from metaloom.judging import Verdict
from metaloom.judging.ledger import Entry
from metaloom.judging.records import record
from metaloom.pipeline.stages import reproduce
from metaloom.retraining import loop, steps, telling
from metaloom.retraining.approving import answer
from metaloom.retraining.loop import Result
from metaloom.retraining.nights import Night, nights
from metaloom.versioning import registry
from metaloom.versioning.data import version_dataset
from metaloom.versioning.quality import handed, told_apart
from metaloom.versioning.registry import metadata_of

DAG = """\
stages:
  export:
    cmd: >-
      mkdir -p artifacts/bundle && cat data/* > artifacts/bundle/metadata.json &&
      cp data/a metrics.json && cp data/a splits.yaml
    deps: [data]
    outs: [artifacts/bundle]
    metrics:
      - metrics.json: {cache: false}
artifacts:
  handoff: {path: artifacts/bundle, type: model}
"""
BEGAN = 1_795_000_000.0
NIGHT = 24 * 3600.0
ALPHA = 1e-4  # error that a judgement of `noted` spends


class Project:
    """A clone, with what a retraining of it does."""

    def __init__(self, root: Path, runs: list[str]) -> None:
        self.root, self.runs, self.clock = root, runs, BEGAN

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(self.root), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def data(self, accuracy: float, half: float = 0.01) -> None:
        """Data of which the model gets this accuracy."""
        measured = {"accuracy": accuracy, "low95": accuracy - half, "high95": accuracy + half}
        metadata = {"task": {"name": "greek", "n_way": 24}, "metrics": {"task": measured}}
        (self.root / "data").mkdir(exist_ok=True)
        (self.root / "data/a").write_text(json.dumps(metadata))

    def night(self, **options) -> Result:
        """The next night's run."""
        self.clock += NIGHT
        return loop.retrain(self.root, self.train, now=lambda: self.clock, **options)

    def train(self, place: Path, force: bool) -> None:
        version_dataset(place)
        self.runs.append("run")
        reproduce(place, "export", force)

    def nights(self) -> list[Night]:
        return nights(self.root)

    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.nights()]

    def tags(self) -> list[str]:
        return self.git("tag").split()

    def branches(self) -> list[str]:
        return self.git("branch", "--format=%(refname:short)", "--list", "retrain/*").split()

    def set(self, **values: str) -> None:
        """Settings of the section `retrain`, committed."""
        path, text = self.root / "params.yaml", (self.root / "params.yaml").read_text()
        head, section = text.split("\nretrain:", 1)
        lines = section.splitlines()
        for name, value in values.items():
            lines = [
                f"{each[: -len(each.lstrip())]}{name}: {value}" if each.strip().startswith(f"{name}:") else each
                for each in lines
            ]
        path.write_text(f"{head}\nretrain:" + "\n".join(lines) + "\n")
        self.git("commit", "-qam", "settings")


def by_figures(root: Path, champion: str, challenger: str, note: bool = True, names: object = None) -> Verdict:
    """In the place of the judge, as there are no models to ask: the bundles' figures say it."""
    present, new = (handed(metadata_of(root, each)) for each in (champion, challenger))
    worse, message = told_apart(present, new)
    if worse:
        return Verdict("worse", message, {})
    if new.low95 > present.accuracy:
        return Verdict("better", message.replace("no worse", "better", 1), {})
    return Verdict("not worse", message, {})


def noted(root: Path, champion: str, challenger: str, note: bool = True, names: object = None) -> Verdict:
    """The same with a line in the ledger, as the judge writes it."""
    verdict = by_figures(root, champion, challenger)
    if note:
        when = datetime.fromtimestamp(float(os.environ["CLOCK"]), UTC)
        record(root, Entry(when, champion, challenger, verdict.outcome, ALPHA, "t1", 0.2, 0.1, 0.3, 900))
    return Verdict(verdict.outcome, verdict.message, {"challenger": {"commit": challenger}})


def template(root: Path) -> None:
    (root / "dvc.yaml").write_text(DAG)
    (root / ".gitignore").write_text("/data\n/.metaloom/\n/artifacts/\n")
    shutil.copy(REPO / "params.yaml", root)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    for command in (
        ["git", "init", "-q", "-b", "main"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "config", "core.analytics", "false"],
        ["git", "config", "user.name", GIT_IDENTITY["NAME"]],
        ["git", "config", "user.email", GIT_IDENTITY["EMAIL"]],
        ["git", "add", "-A"],
        ["git", "commit", "-qm", "start"],
    ):
        subprocess.run(command, cwd=root, env=environment, check=True)


class Receiver(BaseHTTPRequestHandler):
    """In the place of a team's chat: keeps what it is told."""

    taken: list[dict] = []

    def do_POST(self):
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def share(project: Project, there: Path) -> None:
    """Give it a bare repository and a DVC remote, both below `there`, which is beside it."""
    up = os.path.relpath(there, project.root)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", there / "origin.git"], check=True)
    config = f"[core]\n    analytics = false\n    remote = there\n['remote \"there\"']\n    url = ../{up}/store\n"
    (project.root / ".dvc/config").write_text(config)
    project.git("commit", "-qam", "remote")
    project.git("remote", "add", "origin", f"{up}/origin.git")
    project.git("push", "-q", "-u", "origin", "main")


def one_night() -> None:
    """The project in the folder `project`, for a process of its own; $CLOCK says when."""
    _stand_ins()
    project = Project(Path("project").absolute(), [])
    project.clock = float(os.environ["CLOCK"])
    print(project.night().message, flush=True)
    os._exit(0)  # a fork has none of the threads that libraries would end


def one_answer() -> None:
    """A person's answer to the last night of it: yes, as $APPROVED says, or no."""
    _stand_ins()
    root = Path("project").absolute()
    night, clock = nights(root)[-1], float(os.environ["CLOCK"])
    print(answer(root, night.name, os.environ["APPROVED"] == "yes", now=lambda: clock).message, flush=True)
    os._exit(0)


def one_shadow() -> None:
    """Labels come in, which show that the version in use is worse."""
    _stand_ins()
    shadow.datetime = Clock
    os.chdir("project")
    app(["shadow", "--labels", "../labels.csv"], standalone_mode=False)
    os._exit(0)


class Clock(datetime):
    """Stands at $CLOCK, as the judge's share of the error grows with the time."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.fromtimestamp(float(os.environ["CLOCK"]), tz)


def _stand_ins() -> None:
    """There are no models; what a person is told goes into the file $TOLD, if there is one."""
    registry._check_bundle = lambda root, commit: None
    steps.judged = noted
    if told := os.environ.get("TOLD"):
        telling.send = lambda notify, title, message: _add_line(Path(told), message["message"])


def _add_line(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")
