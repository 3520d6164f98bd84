"""A PostgreSQL of the test run's own, which can be killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import psutil
import together

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # which are not on PATH
SECONDS = 120
SERVE = """\
import subprocess, sys
from metaloom.system.lifeline import end_with_parent
end_with_parent()
user = {"user": sys.argv[1], "group": sys.argv[1], "extra_groups": []} if sys.argv[1] else {}
subprocess.run(sys.argv[2:], check=True, **user)
"""


@cache
def program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, reversed(DEBIAN))]))


@cache
def user() -> str:
    """As whom it runs: it refuses to be root's."""
    return pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else ""


def owned(folder: Path) -> None:
    if user():
        shutil.chown(folder, user(), user())


class Postgres:
    """The one in a folder that its user can reach."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.url = f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"

    def make(self) -> None:
        owned(self.folder)
        options = ["-D", "data", "-U", "postgres", "--auth", "trust", "--no-sync", "-E", "UTF8", "--locale", "C"]
        as_user = {"user": user(), "group": user(), "extra_groups": []} if user() else {}
        command = [str(program("initdb")), *options]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, **as_user)

    def start(self) -> None:
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F"]
        command = [sys.executable, "-c", SERVE, user(), str(program("postgres")), *options]
        lifeline = together.lifeline()
        with open(self.folder / "log", "ab") as log:
            subprocess.Popen(command, cwd="/", stdin=lifeline, stdout=log, stderr=log, start_new_session=True)
        os.close(lifeline)
        self._await(up=True)

    def kill(self) -> None:
        """With all of its processes, in which a client's transaction may be at work."""
        postmaster = psutil.Process(int((self.folder / "data/postmaster.pid").read_text().split()[0]))
        for process in (postmaster, *postmaster.children()):
            process.send_signal(signal.SIGKILL)
        self._await(up=False)

    def _await(self, up: bool) -> None:
        ready = [str(program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if (subprocess.run(ready).returncode == 0) == up:
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text())
