"""The result of a retraining as a commit on a branch of its own; neither the checkout nor its index is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from metaloom.config import PARAMS
from metaloom.config.loading import assigned
from metaloom.errors import MetaloomError
from metaloom.retraining.git import NOBODY, GitError, asked, git, identity
from metaloom.retraining.nights import IGNORE, TRACKED, Night
from metaloom.retraining.taking import SPLITS
from metaloom.system.provenance import LOCK, POINTER
from metaloom.system.quantities import percent
from metaloom.versioning.code import CODE
from metaloom.versioning.project import open_project

SKIP_CI = "[skip ci]"
RETRAIN = "retrain"  # what the names of branches begin with
STARTS = "starts from: "  # in a message, before a version
BUDGET = "budget.yaml"
SUBJECTS = {
    "first": "the first version",
    "better": "better than {}",
    "not worse": "not worse than {}",
    "worse": "worse than {}, held",
    "undecided": "not to be told from {}",
}


def stage_results(place: Path, **environment: str) -> str:
    """Have the workspace's git know what the run has written, and give the tree with it.

    What DVC keeps is in its cache; git keeps dvc.lock, data.dvc, the split table and the metrics.

    Args:
        place: the workspace.
        environment: of git, for example another index.
    """
    place = place.resolve()  # as DVC gives the paths
    with open_project(place) as repo:
        of_git = [out.fs_path for stage in repo.index.stages for out in stage.outs if not out.use_cache]
    of_start = (TRACKED, IGNORE) if (place / TRACKED).is_file() else ()
    wanted = [*(place / name for name in (LOCK, POINTER, SPLITS, BUDGET, CODE, PARAMS, *of_start)), *map(Path, of_git)]
    there = [str(path.relative_to(place)) for path in wanted if path.exists()]
    git(place, "add", "--all", "--force", "--", *there, **environment)
    return git(place, "write-tree", **environment)


def make_commit(root: Path, night: Night, tree: str, message: str) -> str:
    """A commit of the tree on the retraining's base. Of the same it is the same commit, however often it is made."""
    name, email = identity(root)
    at = f"{int(night.began)} +0000"
    who = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", name), ("EMAIL", email))
    }
    dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
    if (name, email) == NOBODY:
        night.note("git knows no name here, so the commit is metaloom's: `git config user.name` and user.email set one")
    return git(root, "commit-tree", tree, "-p", night.base, "-F", "-", stdin=message, **who, **dates)


def message_of(night: Night, skip_ci: bool) -> str:
    """What the commit says: a report in a few lines."""
    outcome = night.verdict.get("outcome", "")
    subject = SUBJECTS.get(outcome, "").format(night.champion or "what there was")
    lines = [
        f"Retrained on data {night.data[:8]}" + (f": {subject}" if subject else "") + (f" {SKIP_CI}" if skip_ci else "")
    ]
    lines += ["", *([night.verdict["message"]] if night.verdict.get("message") else [])]
    if night.figures:
        found = night.figures
        interval = f"{percent(found['low95'])} to {percent(found['high95'])}"
        lines.append(f"accuracy: {percent(found['accuracy'])} ({interval}) at {found['task']}")
    lines += [f"{STARTS}{night.start}"] if night.start else []
    lines += [f"setting: {assigned(key, value)}" for key, value in night.changed.items()]
    lines += [
        f"data: {night.data}" + (f" (of {night.past[:8]})" if night.past else ""),
        f"from: {night.base}",
        f"began: {datetime.fromtimestamp(int(night.began), UTC).isoformat()}",
    ]
    return "\n".join(lines) + "\n"


def put_on_branch(root: Path, night: Night, commit: str) -> None:
    """Have the retraining's branch be the commit; one that somebody has moved on stays as it is.

    Raises:
        MetaloomError: the branch has another commit.
    """
    ref = f"refs/heads/{night.branch}"
    present = asked(root, "rev-parse", "--verify", "--quiet", ref)
    if present == commit:
        return
    if present and present != night.commit:
        raise MetaloomError(
            f"the branch {night.branch} is at {present[:8]}, which this retraining did not make: rename it with "
            f"`git branch -m {night.branch} NAME`"
        )
    if asked(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{RETRAIN}"):
        raise MetaloomError(in_the_way(f"git branch -m {RETRAIN} NAME"))
    git(root, "update-ref", ref, commit, present or "0" * len(commit))


def in_the_way(remedy: str) -> str:
    """What is wrong where a branch has the name of the folder that all of ours are in."""
    return f"a branch is called {RETRAIN}, so none can be called {RETRAIN}/…, as those of retrainings: `{remedy}`"


def does_not_merge(root: Path, commit: str) -> str:
    """The files in which the commit conflicts with what the checkout stands at now; "" where it merges."""
    present = asked(root, "rev-parse", "HEAD")
    if not present:
        return ""
    try:
        git(root, "merge-tree", "--write-tree", "--name-only", "--no-messages", present, commit)
    except GitError:
        named = _conflicting(root, present, commit)
        return ", ".join(named)
    return ""


def _conflicting(root: Path, present: str, commit: str) -> list[str]:
    base = asked(root, "merge-base", present, commit)
    ours = set(asked(root, "diff", "--name-only", base, present).splitlines())
    theirs = set(asked(root, "diff", "--name-only", base, commit).splitlines())
    return sorted(ours & theirs)
