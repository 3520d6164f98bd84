"""Which versions of data/ there are in commits, and what was made from those that hold a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloom.system.git import dates_of, found_in_refs, refs
from metaloom.system.provenance import LOCK, POINTER
from metaloom.versioning.objects import whole_tree
from metaloom.versioning.paths import BUNDLE
from metaloom.versioning.project import open_project
from metaloom.versioning.purged import lists_any, purged

VERSION = r"md5: [0-9a-f]{32}\.dir"


@dataclass(frozen=True)
class DataAt:
    """A version of data/ that a commit names.

    Args:
        version: its hash.
        date: of the first commit in which data.dvc named it, the newest time.
        commit: that one.
        names: tags and branches of whose data it is.
        files: how many; 0 where data.dvc does not say it.
        size: of all of them in bytes; likewise.
        state: "whole" in DVC's cache, "purged" in part, or "not here" where the cache lacks some of it.
    """

    version: str
    date: str
    commit: str
    names: list[str]
    files: int
    size: int
    state: str


def data_versions(root: Path) -> list[DataAt]:
    """All versions of data/ that commits of branches and tags name, the newest first."""
    found: list[DataAt] = []
    dates = dates_of(root, POINTER)
    pointers = _pointers(root, list(dates))
    names = _versions(root, refs(root))
    gone = purged(root)
    with open_project(root) as repo:
        for commit, date in dates.items():
            own = pointers.get(commit, {})
            version = own.get("md5", "")
            if version and version not in {each.version for each in found}:
                of = sorted(name for name, each in names.items() if each == version)
                state = _state(repo, version, gone)
                files, size = int(own.get("nfiles", 0)), int(own.get("size", 0))
                found.append(DataAt(version, date, commit, of, files, size, state))
    return found


def _state(repo: Any, version: str, gone: set[str]) -> str:
    tree = whole_tree(repo, version)
    if tree is not None and any(oid.value in gone for _, _, oid in tree):
        return "purged"
    held = tree is not None and all(Path(repo.cache.local.oid_to_path(oid.value)).is_file() for _, _, oid in tree)
    return "whole" if held else "not here"


def _pointers(root: Path, commits: list[str]) -> dict[str, dict[str, str]]:
    """What data.dvc says in each commit."""
    found: dict[str, dict[str, str]] = {}
    for line in found_in_refs(root, r"(md5|nfiles|size): [0-9a-f]+(\.dir)?", POINTER, commits, named=True):
        commit, _, said = line.partition(f":{POINTER}:")
        name, _, value = said.partition(": ")
        found.setdefault(commit, {})[name] = value
    return found


@dataclass(frozen=True)
class Holders:
    """What is of data that hold it.

    Args:
        versions: of data/, by their hashes.
        commits: how many name one of them.
        models: versions of the model, such as v0.2.0.
        names: other tags, and branches.
        here: whether dvc.lock names one, so that models, bundle and report in the workspace are of it.
        unknown: how many versions of data/ commits name whose list of files is not in DVC's cache.
    """

    versions: list[str]
    commits: int
    models: list[str]
    names: list[str]
    here: bool
    unknown: int


def holders_of(repo: Any, root: Path, oids: set[str]) -> Holders:
    """Look in all that DVC's cache and git know.

    Args:
        repo: DVC's.
        root: the project's root.
        oids: the hashes that DVC gives the files: what has one of them holds it.
    """
    cache = Path(repo.cache.local.path)
    holding = sorted(f"{path.parent.name}{path.name}" for path in cache.glob("??/*.dir") if lists_any(path, oids))
    commits = _versions(root, list(dates_of(root, POINTER)))
    named = _versions(root, refs(root))
    of = [name for name, version in named.items() if version in holding]
    models = [name.partition("@")[2] for name in of if name.startswith(f"{BUNDLE}@")]
    others = [name for name in of if not name.startswith((f"{BUNDLE}@", f"{BUNDLE}#"))]
    names = [name for name in others if _made_from(root, name, holding)]
    lock = root / LOCK
    here = lock.is_file() and any(version in lock.read_text(encoding="utf-8") for version in holding)
    unknown = {each for each in commits.values() if not Path(repo.cache.local.oid_to_path(each)).is_file()}
    return Holders(
        holding, sum(each in holding for each in commits.values()), sorted(models), sorted(names), here, len(unknown)
    )


def _versions(root: Path, names: list[str]) -> dict[str, str]:
    """The version of data/ of each commit, branch or tag that has one."""
    found: dict[str, str] = {}
    for line in found_in_refs(root, VERSION, POINTER, names, named=True):
        name, _, version = line.partition(f":{POINTER}:md5: ")
        found[name] = version
    return found


def _made_from(root: Path, name: str, versions: list[str]) -> bool:
    """Whether dvc.lock of a branch or a tag has one of these versions of data/: nothing was made of it otherwise."""
    return any(version in line for line in found_in_refs(root, VERSION, LOCK, [name]) for version in versions)
