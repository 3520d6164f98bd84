"""`python -m metaloom.versioning STAGE`: bring one stage up to date; the exit code is an `Outcome`.

The flow runs each stage through this, in a process of its own: it sees the overridden settings, what the
stage writes can be read line by line, and it ends with the flow, even when that was killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from metaloom.errors import ERROR_FILE, MetaloomError
from metaloom.locking import BusyError
from metaloom.versioning.stages import Outcome, reproduce

PATIENCE = 10  # seconds from SIGTERM to SIGKILL


def main() -> int:
    if len(sys.argv) != 2:
        print(f"usage: {Path(sys.executable).name} -m metaloom.versioning STAGE", file=sys.stderr)
        return Outcome.REFUSED
    _end_with_parent()
    try:
        return reproduce(".", sys.argv[1])
    except BusyError as error:
        return _fail(Outcome.BUSY, error)
    except MetaloomError as error:
        return _fail(Outcome.FAILED, error)


def _fail(outcome: Outcome, error: MetaloomError) -> Outcome:
    """Leave the message for the flow, unless the stage's command left its own, which says more."""
    path = os.environ.get(ERROR_FILE)
    if path is None:
        print(f"error: {error}", file=sys.stderr, flush=True)
    elif not Path(path).stat().st_size:
        Path(path).write_text(str(error))
    return outcome


def _end_with_parent() -> None:
    """End this process's group when standard input closes: the parent holds its other end, and is gone then.

    SIGTERM to the group ends the stage's command; this process outlives it, so that DVC can tidy up.
    """
    if sys.stdin.isatty() or os.getpgrp() != os.getpid():
        return  # started by hand
    signal.signal(signal.SIGTERM, lambda *_: None)  # unlike SIG_IGN, not inherited by the command
    lifeline = os.dup(sys.stdin.fileno())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())  # what the stage's command finds as its input
    os.close(null)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os.killpg(0, signal.SIGTERM)
        time.sleep(PATIENCE)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
