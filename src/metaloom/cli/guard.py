"""Outlives `metaloom serve` and `metaloom run`, to tell Prefect's server of their flow runs where they were killed."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from metaloom.system import lifeline

ENDED = "ended"  # what a command says that ends by itself
SERVED = "served"
LOOK_AT_RUNS = 2.0  # seconds between looks at the flow runs
PATIENCE = 90.0  # seconds that the server may take to answer


def start_guard(root: Path, served: bool) -> None:
    """Have a guard look after the flow runs of this process.

    Args:
        root: the project's root.
        served: they are runs of the deployment, which this process takes from the server.
    """
    guard = lifeline.start(
        ["-m", "metaloom.cli.guard", *([SERVED] if served else [])],
        cwd=root,
        env=dict(os.environ),
        out=subprocess.DEVNULL,
        err=subprocess.DEVNULL,
    )

    def end() -> None:
        with suppress(subprocess.TimeoutExpired):
            guard.communicate(ENDED, timeout=lifeline.PATIENCE)

    atexit.register(end)


def main(served: bool) -> None:
    """Wait for the end of the command; where it says nothing, look until its flow runs have ended too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what a command sends to all that it has started
    if sys.stdin.read():
        return
    from httpx import HTTPError

    from flows.notes import killed, living, mark_crashed

    root, gone, end = Path.cwd(), datetime.now(UTC) if served else None, time.monotonic() + PATIENCE
    while living(root) or ((served or killed(root)) and time.monotonic() < end):
        with suppress(HTTPError):
            mark_crashed(root, taken_before=gone)
        time.sleep(LOOK_AT_RUNS)


if __name__ == "__main__":
    main(SERVED in sys.argv)
