"""The commit that the project stands at."""

from __future__ import annotations

import subprocess
from pathlib import Path

# what artifacts depend on: code, settings, the data version, and what an earlier run has decided for the next
INPUTS = ("src", "params.yaml", "dvc.yaml", "constraints.txt", "data.dvc", "budget.yaml", "splits.yaml")


def head(root: str | Path = ".") -> tuple[str, bool] | None:
    """The commit, and whether code, settings or data differ from it; None outside git or before a first commit."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return (commit, changed(root, *INPUTS)) if commit else None


def changed(root: str | Path, *paths: str) -> bool:
    """Whether any of them differs from the commit."""
    return bool(_git(root, "status", "--porcelain", "--", *paths))


def committed(root: str | Path, path: str) -> str | None:
    """The text of a file under `root` as the commit has it; None outside git, or where the commit has no such file."""
    return _git(root, "show", f"HEAD:./{path}") or None


def _git(root: str | Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # git is not installed, or waits for a disk
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
