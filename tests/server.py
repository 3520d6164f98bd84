"""One real Prefect server with a database of its own, for all workers of a test run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import together
from projects import free_port

STARTUP_SECONDS = 120
SERVE = """\
import sys
from metaloom.system.lifeline import end_with_parent
end_with_parent()
from prefect.cli import app
sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", sys.argv[1]]
app()
"""


def environment_of_server() -> dict[str, str]:
    """What a process needs in its environment to reach the server, which ends with the test run."""
    return json.loads((together.once("prefect", start) / "environment.json").read_text())


def start(home: Path, **more: str) -> None:
    """Fill the folder with a server's database, log and `environment.json`; `more` is of its environment alone."""
    port = free_port()
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_UI_ENABLED": "false",
        "PREFECT_SERVER_METRICS_ENABLED": "true",
        "PREFECT_API_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    command, env = [sys.executable, "-c", SERVE, str(port)], os.environ | environment | more
    lifeline = together.lifeline()
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, env=env, stdin=lifeline, stdout=log, stderr=log, start_new_session=True)
    os.close(lifeline)
    _await(environment["PREFECT_API_URL"], server, home / "server.log")
    (home / "environment.json").write_text(json.dumps(environment))


def _await(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"no Prefect server: {log.read_text()}")
