"""`python -m metaloom.pipeline STAGE [--force]`: bring one stage up to date; the exit code is a `StageExit`.

The flow runs each stage through this, in a process of its own: it sees the overridden settings, what the
stage writes can be read line by line, and it ends with the flow, even when that was killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from metaloom.errors import ERROR_FILE, MetaloomError
from metaloom.pipeline.stages import FORCE, StageExit, reproduce
from metaloom.system.collector import spare_collector
from metaloom.system.escaping import shown
from metaloom.system.lifeline import end_with_parent, name_runner
from metaloom.system.lock import BusyError


def main() -> int:
    """Bring the stage of the command line up to date; returns the exit code."""
    spare_collector()
    name, *force = sys.argv[1:] or [""]
    if not name or force not in ([], [FORCE]):
        print(f"usage: {Path(sys.executable).name} -m metaloom.pipeline STAGE [{FORCE}]", file=sys.stderr)
        return StageExit.REFUSED
    if end_with_parent():  # with SIGTERM for the group: that ends the stage's command, and DVC tidies up
        signal.signal(signal.SIGTERM, lambda *_: None)
    name_runner()
    try:
        return reproduce(".", name, bool(force))
    except BusyError as error:
        return _fail(StageExit.BUSY, error)
    except MetaloomError as error:
        return _fail(StageExit.FAILED, error)


def _fail(code: StageExit, error: MetaloomError) -> StageExit:
    """Leave the message for the flow, unless the stage's command left its own, which says more."""
    path = os.environ.get(ERROR_FILE)
    if path is None:
        print(shown(f"error: {error}"), file=sys.stderr, flush=True)
    elif not Path(path).stat().st_size:
        Path(path).write_text(str(error), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
