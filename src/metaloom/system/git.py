"""The commit that the project stands at."""

from __future__ import annotations

import subprocess
from pathlib import Path


def revision(root: str | Path, name: str = "HEAD") -> str:
    """The name of the commit, or of what a branch or tag is; empty outside git and where there is none."""
    return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", name)


def changed(root: str | Path, *paths: str) -> bool:
    """Whether any of them differs from the commit."""
    return bool(_git(root, "status", "--porcelain", "--", *paths))


def differing(root: str | Path) -> list[str]:
    """The files that differ from the commit, those that git does not know among them."""
    return [line.split(maxsplit=1)[1] for line in _git(root, "status", "--porcelain").splitlines()]


def committed(root: str | Path, path: str) -> str | None:
    """The text of a file under `root` as the commit has it; None outside git, or where the commit has no such file."""
    return _git(root, "show", f"HEAD:./{path}") or None


def _git(root: str | Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, ValueError, subprocess.TimeoutExpired):  # not installed, no legal argument, or it waits for a disk
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
