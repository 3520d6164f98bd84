"""Moments of a command, by number, and a kill of all its processes at one of them.

A moment is each change that its Python processes make below a folder: just before a file is opened for writing, renamed
or removed, or a folder made or removed; in the files that DVC writes in place, such as dvc.lock, after each line; and
before git is started, and while it is at work. Unlike times, they are about the same on every machine.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from projects import REPO, environment

SIZE = 80  # bytes of the record of a moment
PYTHONPATH = os.pathsep.join(filter(None, [str(REPO / "tests"), os.environ.get("PYTHONPATH")]))
HOOK = f"""\
import builtins, io, os, sys, time

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
folder, last = os.environ["MOMENTS_OF"] + "/", int(os.environ["MOMENT"])
records = os.open(os.environ["MOMENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def moment(what, path, waits=True):
    record = f"{{what}} {{path.removeprefix(folder)}}".encode()[:{SIZE} - 1].ljust({SIZE} - 1) + b"\\n"
    os.write(records, record)
    if waits and os.fstat(records).st_size // {SIZE} >= last:
        time.sleep(3600)  # until it is killed

def whole(path, within=-1):
    path = os.fsdecode(path)
    return os.path.join(os.readlink(f"/proc/self/fd/{{within}}") if within >= 0 else os.getcwd(), path)

def heard(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int) or not flags & WRITES:
            return
        path = whole(path)
    elif event == "subprocess.Popen" and os.fsdecode(arguments[0]).endswith("git"):
        command = " ".join(map(os.fsdecode, arguments[1][-4:]))
        moment("before git", command)
        moment("in git", command, waits=False)
        return
    elif event in CHANGES:
        path = whole(arguments[0], -1 if event == "os.truncate" else arguments[-1])
    else:
        return
    if path.startswith(folder):
        moment(event, path)

class InPlace(io.TextIOWrapper):
    begun = False

    def write(self, text):
        done = super().write(text)
        if "\\n" in text or not self.begun:
            self.begun = True
            self.flush()
            moment("in", whole(self.name))
        return done

def opened(file, mode="r", *arguments, plain=open, **options):
    name = os.path.basename(file) if isinstance(file, str | os.PathLike) else ""
    if "w" in mode and "b" not in mode and (name in ("dvc.lock", "rwlock") or name.endswith(".dvc")):
        return InPlace(plain(file, mode + "b"), encoding="utf-8")
    return plain(file, mode, *arguments, **options)

builtins.open = opened
sys.addaudithook(heard)
"""


FORKS = """\
import json, os, sys

if sys.argv[1].startswith("one_"):
    import dvc.repo.reproduce, dvc.dvcfile, dvc.dependency, dvc.stage.cache, nights
    command = getattr(nights, sys.argv[1])
elif sys.argv[1] == "run":
    import flows.pipeline, metaloom.cli.run, metaloom.pipeline.summary, dvc.repo.reproduce, dvc.dvcfile, dvc.dependency
    from metaloom.cli.app import app, main
    command = lambda: main(lambda: app(["run"]))
else:
    import dvc.cli.parser, dvc.commands.repro, dvc.repo.reproduce, dvc.dvcfile, dvc.dependency, dvc.stage.cache
    from dvc.cli import main
    command = lambda: sys.exit(main(["repro"]))

for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    os.chdir(asked["root"])
    os.environ.update(asked["environment"])
    for number, name in enumerate((os.devnull, asked["printed"], asked["printed"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    exec(asked["hook"], {"__name__": "hook"})
    command()
    sys.exit()
"""


class Commands:
    """`metaloom run`, `dvc repro` or a night, started again and again by a process that has imported what they need."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def killed_at(self, root: Path, moment: int, scratch: Path, environment: dict[str, str] | None = None) -> list[str]:
        """Run the command in a project, and SIGKILL all its processes when it has come to a moment.

        Args:
            root: the project's root, whole.
            moment: a number from 1.
            scratch: a folder of its own.
            environment: more of it.

        Returns:
            The moments that it came to, one line each.
        """
        records = scratch / "moments"
        records.touch()
        code = self.run(root, scratch, int(moment), records, environment)
        assert code in (0, -9), (scratch / "printed").read_text(errors="replace")
        return records.read_text(errors="replace").splitlines()[:moment]

    def run(
        self,
        root: Path,
        scratch: Path,
        moment: int = 0,
        records: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> int:
        """Run it, to its end where no moment is given; the exit code; what it prints is in `scratch / "printed"`."""
        env = {"PYTHONDONTWRITEBYTECODE": "1"} | (environment or {})
        if records:
            (scratch / "sitecustomize.py").write_text(HOOK)
            path = os.pathsep.join(filter(None, [str(scratch), os.environ.get("PYTHONPATH")]))
            env |= {"MOMENTS": str(records), "MOMENTS_OF": str(root), "MOMENT": str(moment), "PYTHONPATH": path}
        asked = {"root": str(root), "environment": env, "printed": str(scratch / "printed")}
        asked["hook"] = HOOK if records else ""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        while records and psutil.pid_exists(pid) and records.stat().st_size < moment * SIZE:
            time.sleep(0.01)
        if records and psutil.pid_exists(pid):
            kill_all(pid)
        return int(self._process.stdout.readline())


@contextmanager
def commands(name: str, **more: str) -> Iterator[Commands]:
    """`run`, `repro` or a function of `nights`, with `more` in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS, name],
        cwd=REPO,
        env=environment() | {"PYTHONPATH": PYTHONPATH} | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Commands(process)


def sampled(moments: list[str], count: int, seed: int) -> list[int]:
    """So many moments, by number: a third of those at which git is at work or about to be, and of the others the rest.

    Args:
        moments: all.
        count: of them.
        seed: another one draws others.
    """
    git = [number for number, what in enumerate(moments, start=1) if " git " in what]
    others = [number for number, what in enumerate(moments, start=1) if " git " not in what]
    rng = random.Random(seed)
    numbers = rng.sample(git, min(count // 3, len(git)))
    numbers += rng.sample(others, min(count - len(numbers), len(others)))
    rng.shuffle(numbers)
    return numbers


def kill_all(pid: int) -> None:
    """A process and all that it has started."""
    try:
        process = psutil.Process(pid)
        processes = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in processes:
        each.kill()
    psutil.wait_procs(processes, timeout=20)


def chosen(moments: list[str], count: int, seed: int) -> list[int]:
    """So many of them, by number: a quarter of those at which dvc.lock is written, and of the others the rest."""
    at_lock = [number for number, what in enumerate(moments, start=1) if "dvc.lock" in what]
    others = [number for number in range(1, len(moments) + 1) if number not in at_lock]
    rng = random.Random(seed)
    some = rng.sample(at_lock, min(count // 4, len(at_lock)))
    numbers = [*some, *rng.sample(others, count - len(some))]
    rng.shuffle(numbers)
    return numbers


NEVER = 10**9
