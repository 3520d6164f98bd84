"""The clone that a worker retrains in: made once, brought up to date before each run, and never taken away."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.retraining.git import GitError, asked, git
from metaloom.system.files import read_json, write_json
from metaloom.system.lock import STATE
from metaloom.system.provenance import LOCK, POINTER
from metaloom.versioning.project import DAG, open_project
from metaloom.versioning.remotes import remote_errors, tried_again

OTHERS = f"{STATE}/worker.json"  # in a clone that is one of several which retrain the same project


def clone(repository: str, branch: str, commit: str, folder: str, handover: float) -> Path:
    """Have the project here as its repository has it, with what DVC's remote has of it.

    What a retraining has left in the clone stays: its records, its workspaces and DVC's cache.

    Args:
        repository: the URL, as `git clone` takes it.
        branch: that is checked out; empty: the repository's own.
        commit: checked out instead; empty: the newest of the branch.
        folder: of the project in the repository; empty: its root.
        handover: minutes between copies of half-done training, for other workers; 0: none.

    Returns:
        The project's root.

    Raises:
        BusyError: DVC's remote does not answer.
        MetaloomError: git refuses, or the repository has no such project.
    """
    place = Path(repository.rstrip("/").rpartition("/")[2].removesuffix(".git") or "project").absolute()
    if not (place / ".git").exists():
        _first(repository, place)
    elif (origin := _public(asked(place, "config", "remote.origin.url"))) != _public(repository):
        raise MetaloomError(f"{place} is a clone of {origin or 'nothing'}: start the worker in another folder")
    else:
        git(place, "remote", "set-url", "origin", repository)  # its password may be another one now
        with _no_password(repository):
            git(place, "fetch", "--quiet", "--prune", "origin")
    if commit:
        git(place, "checkout", "--quiet", "--detach", commit)
    else:
        branch = branch or asked(place, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
        git(place, "checkout", "--quiet", "-B", branch, "--track", f"origin/{branch}")
    root = place / folder
    if not (root / DAG).is_file():
        raise MetaloomError(f"{repository} has no {DAG} in {folder or 'its root'}: a project has one")
    write_json(root / OTHERS, {"handover": handover})
    _pull(root)
    return root


def _first(repository: str, place: Path) -> None:
    """Whole, or not at all."""
    new = place.with_name(f".{place.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with _no_password(repository):
            git(place.parent, "clone", "--quiet", "--", repository, str(new))
    except GitError:
        shutil.rmtree(new, ignore_errors=True)
        raise
    new.rename(place)


@contextmanager
def _no_password(repository: str) -> Iterator[None]:
    """What git says goes into logs."""
    try:
        yield
    except GitError as error:
        raise GitError(str(error).replace(repository, _public(repository))) from None


def _public(repository: str) -> str:
    """The URL without name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", repository)


def _pull(root: Path) -> None:
    """`dvc pull`, as far as the remote has what dvc.lock and data.dvc name."""
    if not any((root / name).is_file() for name in (LOCK, POINTER)):
        return
    with open_project(root) as repo:
        if not repo.config["core"].get("remote"):
            return

        def pulled() -> None:
            with remote_errors():
                repo.pull(allow_missing=True)

        tried_again(pulled)


def handover(root: Path) -> float | None:
    """Minutes between copies of half-done training; None where this clone alone retrains the project."""
    path = root / OTHERS
    return float(read_json(path)["handover"]) if path.is_file() else None
