"""Locks that a git which was killed has left behind: they would stop every night until a person removes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from metaloom.retraining.git import SECONDS, asked
from metaloom.retraining.nights import FOLDER
from metaloom.system.terminal import say

OURS = ("refs/heads/retrain/*.lock", "logs/refs/heads/retrain/*.lock")
OTHERS_TOO = ("packed-refs.lock", "refs/tags/*.lock", "refs/notes/*.lock", "refs/remotes/*/*.lock", "shallow.lock")


def clear_locks(root: Path) -> None:
    """Remove what is nobody's: locks of the retraining's own worktrees and branches, and of what other commands lock
    too, those that are older than any git of ours may be at work. The checkout's own stay as they are.

    Args:
        root: the project's, whose retrainings are locked by the caller.
    """
    told = asked(root, "rev-parse", "--path-format=absolute", "--git-common-dir")
    if not told:
        return
    common = Path(told)
    ours = [each for pattern in OURS for each in common.glob(pattern)]
    ours += [each for folder in _own_worktrees(root, common) for each in folder.glob("*.lock")]
    shared = [each for pattern in OTHERS_TOO for each in common.glob(pattern) if _age(each) > SECONDS]
    for lock in (*ours, *shared):
        lock.unlink(missing_ok=True)
        say(f"removed {lock.relative_to(common)}, which a git that was killed had left")


def _own_worktrees(root: Path, common: Path) -> Iterator[Path]:
    """What git keeps of the worktrees below the folder of retrainings."""
    own = f"{(root / FOLDER).resolve()}/"
    for pointer in common.glob("worktrees/*/gitdir"):
        if pointer.read_text(encoding="utf-8", errors="replace").startswith(own):
            yield pointer.parent


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
