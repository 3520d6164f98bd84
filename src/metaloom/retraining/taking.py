"""What a retraining starts from: a commit, a data version that is whole in DVC's cache, and who is in which split."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from metaloom.config import PARAMS
from metaloom.errors import MetaloomError
from metaloom.pipeline.code import code_state
from metaloom.retraining.git import GitError, asked, file_at, git, head, remote_of, submodules
from metaloom.retraining.nights import CHAMPION, LASTING, Night
from metaloom.system.files import load_yaml
from metaloom.system.git import differing
from metaloom.system.plural import some
from metaloom.system.provenance import DATA, INPUTS, POINTER, version_in
from metaloom.versioning import objects
from metaloom.versioning.data import held_version
from metaloom.versioning.paths import BUNDLE
from metaloom.versioning.project import DAG, open_project

SPLITS = "splits.yaml"
OWN = {POINTER, SPLITS}  # of the inputs: what is taken from elsewhere than the commit
FEW = 3  # files in a message


@dataclass(frozen=True)
class Start:
    """All that the result depends on.

    Args:
        commit: that the workspace is at.
        data: the data version; empty where the commit names none, and the embedded data set is built.
        splits: text of splits.yaml: the commit's, or what an earlier retraining has added to it.
        key: a hash of these, the settings and the code.
        past: the commit whose data version it is, where that is one of the past.
        changed: settings that are changed for this retraining, by dotted keys.
        left_out: a line about what the checkout has beside the commit, or lacks; empty where that is nothing.
    """

    commit: str
    data: str
    splits: str
    key: str
    left_out: str = ""
    past: str = ""
    changed: dict[str, Any] = field(default_factory=dict)


def find_start(root: Path, source: str, before: list[Night], changed: dict[str, Any] | None = None) -> Start:
    """Look at what there is; nothing is changed but that `branch` fetches.

    Args:
        root: the project's.
        source: `folder`: data/ as it is here; `branch`: what the branch's data.dvc names in its remote.
        before: earlier retrainings, the oldest first.
        changed: settings for this one, by dotted keys.

    Raises:
        MetaloomError: there is no commit, the branch has no remote, or that does not answer; or this is a submodule.
    """
    _refuse_clone(root)
    commit = head(root) if source == "folder" else _fetched(root)
    pointer = file_at(root, commit, POINTER)
    named = version_in(pointer, f"{POINTER} of {commit[:8]}") if pointer else ""
    held = held_version(root) if source == "folder" else None
    data = held or named
    splits = _continued(root, file_at(root, commit, SPLITS), before)
    changed = changed or {}
    key = key_of(root, commit, data, splits, changed)
    beside = [_left_out(root, source), _not_here(data) if source == "folder" and named and not held else ""]
    return Start(commit, data, splits, key, "; ".join(filter(None, beside)), changed=changed)


def _not_here(data: str) -> str:
    return (
        f"{DATA}/ holds nothing here, so version {objects.short(data)} is taken, which {POINTER} of the commit names "
        "(is a disk not mounted?)"
    )


def _refuse_clone(root: Path) -> None:
    """Raises MetaloomError where git's core.worktree is set, as in a submodule, or objects are fetched when asked for,
    as in a partial clone."""
    if asked(root, "config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$"):
        raise MetaloomError(
            "this is a partial clone (`git clone --filter`), and DVC cannot read what git has not fetched: retrain in "
            "a whole clone"
        )
    if asked(root, "config", "core.worktree"):
        raise MetaloomError(
            "this checkout is a submodule, or git's core.worktree is set, and DVC does not find its way in a worktree "
            "of such: retrain in a clone of its own"
        )


def find_past(root: Path, revisions: str, before: list[Night], changed: dict[str, Any] | None = None) -> list[Start]:
    """The data versions of the past, each with the settings and the code of now.

    Args:
        root: the project's.
        revisions: one of git's, or `FROM..TO`: that of FROM, and each that came until TO.
        before: earlier retrainings, the oldest first.
        changed: settings for these, by dotted keys.

    Raises:
        MetaloomError: git does not know them, or none of them names a data version.
    """
    _refuse_clone(root)
    first, between, last = revisions.partition("..")
    commits = [_commit(root, first)]
    if between:
        reached = f"{commits[0]}..{_commit(root, last)}"
        commits += git(root, "rev-list", "--reverse", reached, "--", POINTER).splitlines()
    present, changed, found = head(root), changed or {}, {}
    splits = _continued(root, file_at(root, present, SPLITS), before)
    for commit in commits:
        pointer = file_at(root, commit, POINTER)
        data = version_in(pointer, f"{POINTER} of {commit[:8]}") if pointer else ""
        if data and data not in found:
            key = key_of(root, present, data, splits, changed)
            found[data] = Start(present, data, splits, key, past=commit, changed=changed)
    if not found:
        raise MetaloomError(
            f"no {POINTER} at {revisions}: a data version of the past is what a commit's {POINTER} names"
        )
    return list(found.values())


def _commit(root: Path, revision: str) -> str:
    known = "" if revision.startswith("-") else revision
    found = asked(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{known}^{{commit}}") if known else ""
    tagged = asked(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{BUNDLE}@{known}^{{commit}}") if known else ""
    if not (found or tagged):
        raise MetaloomError(f"there is no revision {revision[:100]!r}: write REV or FROM..TO, for example v0.1.0..HEAD")
    return found or tagged


def key_of(root: Path, commit: str, data: str, splits: str, changed: dict[str, Any] | None = None) -> str:
    """A hash of all that a result depends on."""
    inputs = [name for name in (*INPUTS, *read_by_stages(root, commit)) if name not in OWN]
    parts = (asked(root, "ls-tree", commit, "--", *inputs), data, splits.strip(), code_state())
    told = tuple(json.dumps(each, sort_keys=True) for each in (changed, submodules(root, commit)) if each)
    return hashlib.sha256("\0".join((*parts, *told)).encode()).hexdigest()


def read_by_stages(root: Path, commit: str) -> list[str]:
    """What the stages of a commit depend on that none of them writes: files of the project's own, beside those that
    every project has; the folder of `train.start` is among them."""
    stages = (load_yaml(file_at(root, commit, DAG)) or {}).get("stages", {}).values()
    bodies = [stage.get("do", stage) for stage in stages]
    outs = {
        name.partition("${")[0].rstrip("/") for kind in ("outs", "metrics", "plots") for name in _paths(bodies, kind)
    }
    own = {name for name in _paths(bodies, "deps") - {DATA} if not any(_overlap(name, out) for out in outs)}
    return sorted(own | _earlier_models(root, commit))


def _earlier_models(root: Path, commit: str) -> set[str]:
    """The folder of `train.start`, as git has it or DVC's file beside it; that of the model in the stage is none, as
    each retraining makes its own."""
    try:
        start = load_yaml(file_at(root, commit, PARAMS))["train"]["start"]
    except (yaml.YAMLError, TypeError, KeyError):  # refused by the run itself, or of a project without the setting
        return set()
    if not isinstance(start, str) or start == CHAMPION or Path(start).is_absolute() or ".." in Path(start).parts:
        return set()
    folder = Path(start).as_posix()
    return {folder, f"{folder}.dvc"}


def _paths(bodies: list[Any], kind: str) -> set[str]:
    """Of so many stages' deps, outs, metrics or plots, some of which have options."""
    return {
        name for body in bodies for each in body.get(kind, ()) for name in ([each] if isinstance(each, str) else each)
    }


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _fetched(root: Path) -> str:
    """The commit of the branch's upstream, as its remote has it now."""
    upstream = asked(root, "rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}")
    if not upstream:
        raise MetaloomError(
            "retrain.data is branch, and this checkout has no branch with an upstream: `git switch BRANCH`, and "
            "`git push -u` it, or set retrain.data: folder"
        )
    try:
        git(root, "fetch", "--quiet", "--no-tags", remote_of(root))
    except GitError as error:
        raise MetaloomError(f"the data version could not be asked for: {error}") from None
    return git(root, "rev-parse", "--verify", upstream)


def _continued(root: Path, splits: str, before: list[Night]) -> str:
    """What the last retraining that was not held made of these splits, or else these: classes that it has placed stay
    where they are, though nobody has merged its branch."""
    for night in reversed(before):
        if night.commit and night.outcome in LASTING and not night.past:
            found = file_at(root, night.commit, SPLITS)
            untouched = splits in (found, file_at(root, night.base, SPLITS))
            return found if found and untouched else splits
    return splits


def _left_out(root: Path, source: str) -> str:
    if source != "folder":
        return ""
    files = [each for each in differing(root) if each.startswith(tuple(INPUTS)) and each not in OWN]
    if not files:
        return ""
    return f"settings or code differ from the last commit ({some(files, FEW)}): the commit is what is trained"


def save_data(root: Path, version: str) -> str:
    """Have data/ of the checkout in DVC's cache, whole; data.dvc and data/ stay as they are.

    Args:
        root: the project's.
        version: that data/ held a moment ago.

    Returns:
        What it holds now, where files have come or gone meanwhile.

    Raises:
        BusyError: files go on changing while they are read, or a DVC command is at work.
    """
    with open_project(root, lock=True) as repo:
        if objects.saved_tree(repo, version) is not None:
            return version
        return objects.save(repo, root / DATA).hash_info.value


def pointer_to(root: Path, version: str) -> str:
    """The text of a data.dvc that names a version which is in the cache."""
    with open_project(root) as repo:
        tree = objects.saved_tree(repo, version)
        if tree is None:
            raise MetaloomError(
                f"data version {objects.short(version)} is not whole in DVC's cache any more: run again"
            )
        sizes = [Path(repo.cache.local.oid_to_path(oid.value)).stat().st_size for _, _, oid in tree]
    return f"outs:\n- md5: {version}\n  size: {sum(sizes)}\n  nfiles: {len(sizes)}\n  hash: md5\n  path: {DATA}\n"
