"""What DVC's cache may lose: all that no tag, no branch's last commit, not the working tree and no workspace of a
retraining names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.git import prefix
from metaloom.system.lock import RETRAINING, project_lock
from metaloom.system.plural import several
from metaloom.versioning.objects import damaged_objects
from metaloom.versioning.project import open_project

KEPT = {"all_branches": True, "all_tags": True}  # beside the working tree


@dataclass(frozen=True)
class Unused:
    """What would go.

    Args:
        objects: files in the cache.
        size: of them all, in bytes.
        outputs: how many versions of each folder, by its path, where a commit names them.
        unnamed: folders that no commit names: of runs that were never committed.
    """

    objects: int
    size: int
    outputs: dict[str, int]
    unnamed: int


def find_unused(root: str | Path) -> Unused:
    """Look, and delete nothing.

    Raises:
        MetaloomError: there is no DVC repository, another command is at work, the cache may be others' too, or a
            folder's list in it is damaged.
    """
    with _locked(Path(root)) as repo:
        kept, cache = _named(repo, **KEPT), repo.cache.local
        for place in workspaces(Path(root)):
            kept |= _of_workspace(place)
        gone = [each for each in cache.all() if each not in kept]
        ever = _named(repo, all_commits=True)
        sizes = [Path(cache.oid_to_path(each)).stat().st_size for each in gone]
        folders = [each for each in gone if each.endswith(".dir")]
        outputs = Counter(ever[each] for each in folders if each in ever)
        return Unused(len(gone), sum(sizes), dict(sorted(outputs.items())), len(folders) - outputs.total())


def shared_cache(repo: Any, root: Path) -> Path | None:
    """DVC's cache where it lies outside of the project: nobody knows here which other projects need it."""
    cache = Path(repo.cache.local.path)
    return None if cache.resolve().is_relative_to(root.resolve()) else cache


def _refuse_shared(repo: Any, root: Path) -> None:
    if cache := shared_cache(repo, root):
        raise MetaloomError(
            f"DVC's cache {cache} lies outside of this project, so others may use it: `dvc gc --workspace "
            "--all-branches --all-tags --projects OTHER` keeps theirs too, if you name each of them"
        )


def _refuse_damaged(repo: Any) -> None:
    """A folder's list that is damaged names no files for DVC, and those of a version that is kept would go."""
    if lists := damaged_objects(Path(repo.cache.local.path), "*.dir"):
        raise MetaloomError(
            f"{several(len(lists), 'list')} of files in DVC's cache {'is' if len(lists) == 1 else 'are'} damaged, so "
            "it is not known which files are in use: `metaloom doctor --fix`, then again"
        )


def _named(repo: Any, **of: bool) -> dict[str, str]:
    """The hashes of all outputs and of the files in them, with their paths; of what is here, as `dvc gc` does."""
    used = repo.used_objs(force=True, **of).values()
    return {info.value: info.obj_name for infos in used for info in infos}


def collect_garbage(root: str | Path) -> None:
    """Delete what `find_unused` has found; remotes stay as they are."""
    with _locked(Path(root)) as repo:
        repo.gc(workspace=True, force=True, repos=list(map(str, workspaces(Path(root)))), **KEPT)


@contextmanager
def _locked(root: Path) -> Iterator[Any]:
    """DVC's repository, while neither a run nor a retraining is at work."""
    retraining = root / RETRAINING
    nights = project_lock(retraining) if retraining.is_dir() else nullcontext()
    with project_lock(root), nights, open_project(root, lock=True) as repo:
        _refuse_shared(repo, root)
        _refuse_damaged(repo)
        yield repo


def _of_workspace(place: Path) -> dict[str, str]:
    try:
        with open_project(place) as repo:
            return _named(repo)
    except MetaloomError as error:
        raise MetaloomError(
            f"what the retraining in {place} needs cannot be read ({error}): remove that folder, and it begins anew"
        ) from None


def workspaces(root: Path) -> list[Path]:
    """The worktrees of retrainings: one that was broken off goes on with what is in there."""
    below = prefix(root)
    places = [each / below for each in (root / RETRAINING).glob("*")]
    return sorted(each for each in places if (each / ".dvc").is_dir())
