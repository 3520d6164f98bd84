"""What a command that was killed among the nights of a project leaves behind, here and in its remotes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

from nights import Project

from metaloom.judging.records import read_ledger
from metaloom.retraining.nights import Night

OTHERS = ("refs/remotes/origin/main", "refs/notes/judge", "refs/notes/judge-there")  # notes have times: read_ledger


def at_clock(clock: float) -> dict[str, str]:
    return {"CLOCK": str(clock), "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def refs(there: Path, prefix: str) -> dict[str, str]:
    """Of a repository: names with the commits that they stand for."""
    told = "--format=%(refname) %(objectname) %(*objectname)"
    lines = git(there, "for-each-ref", told, prefix).splitlines()
    return {name: ids[-1] for name, *ids in map(str.split, lines)}


def git(there: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", there, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def trees(there: Path, prefix: str) -> dict[str, str]:
    """The same, with the content of the commits, as their dates may differ."""
    return {name: git(there, "rev-parse", f"{commit}^{{tree}}") for name, commit in refs(there, prefix).items()}


def said(night: Night) -> tuple[str, str]:
    """The verdict without its evidence, in which a commit is named."""
    return night.verdict.get("outcome", ""), night.verdict.get("message", "")


def outcome(root: Path) -> dict[str, object]:
    """What a night leaves here and in the remotes: branches and tags with their content, and each file of DVC's."""
    both = {name: trees(root / name, "refs") for name in ("project", "origin.git")}
    for found in both.values():
        for name in OTHERS:
            found.pop(name, None)
    stores = (root / "store", root / "project/.dvc/cache/files")
    files = [path for store in stores for path in store.rglob("??/[!.]*") if path.is_file()]  # .*.tmp is half an object
    sums = {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}  # noqa: S324
    project = Project(root / "project", [])
    ledger = [(each.outcome, each.alpha, each.gain, each.episodes) for each in read_ledger(root / "project")]
    ended = [(each.data, each.champion, each.outcome, each.version, said(each)) for each in project.nights()]
    found = {"refs": both, "files": sums, "ledger": ledger, "nights": [each for each in ended if each[2]]}
    return json.loads(json.dumps(found))


def settle_locks(root: Path, seconds: float) -> None:
    """Git's locks here become that many seconds old; those in the remote go, as a server removes them itself."""
    for lock in (root / "project/.git").rglob("*.lock"):
        os.utime(lock, (time.time() - seconds,) * 2)
    for lock in (root / "origin.git").rglob("*.lock"):
        lock.unlink()  # a server outlives its client, and removes them itself
