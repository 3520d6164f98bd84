"""Data versions of the past, each trained once with the settings and the code of now."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.retraining.locks import clear_locks
from metaloom.retraining.loop import Result, loop_of
from metaloom.retraining.nights import FOLDER, nights
from metaloom.retraining.steps import Train
from metaloom.retraining.taking import find_past
from metaloom.system.lock import project_lock
from metaloom.system.terminal import say


def backfill(
    root: Path,
    train: Train,
    revisions: str,
    force: bool = False,
    dry_run: bool = False,
    wait: float = 0,
    now: Callable[[], float] = time.time,
    changed: dict[str, Any] | None = None,
) -> list[Result]:
    """Train data versions of the past, with the settings and the code of now. Their models are judged, and kept as
    versions in no stage.

    Args:
        root: the project's.
        train: runs the pipeline in a workspace.
        revisions: one of git's, or `FROM..TO`: the data version of FROM, and each that came until TO.
        force: run every stage, and what was trained before.
        dry_run: only say what would be done.
        wait: seconds to wait for another retraining.
        now: Unix time.
        changed: settings for these retrainings alone, by dotted keys.

    Returns:
        What became of each, the oldest first.

    Raises:
        BusyError: another retraining is at work, or a remote does not answer: the next run goes on.
        MetaloomError: whatever else stops it; what was finished is kept, and said.
    """
    loop = loop_of(root, train, now, changed)
    with project_lock(loop.root / FOLDER, wait):
        if not dry_run:
            clear_locks(loop.root)
        done: list[Result] = []
        for start in find_past(loop.root, revisions, nights(loop.root), loop.changed):
            try:
                done.append(loop.of_past(start, force, dry_run))
            except MetaloomError:
                for result in done:
                    say(result.message)
                raise
        return done
