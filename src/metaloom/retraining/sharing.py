"""Versions, stages, and what goes to the remotes: all of a retraining's tags arrive, or none."""

from __future__ import annotations

from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.judging.ledger import written
from metaloom.judging.records import NOTES, judgement_of
from metaloom.retraining import others
from metaloom.retraining.committing import RETRAIN, in_the_way, put_on_branch
from metaloom.retraining.git import TAGS, GitError, asked, fetch_tags, git, identity, tags_at
from metaloom.retraining.nights import Night
from metaloom.versioning import registry

LEDGER, THEIRS = f"refs/notes/{NOTES}", f"refs/notes/{NOTES}-there"  # here and in the remote; what was fetched of it


def push_branch(root: Path, night: Night, remote: str, recorded: bool) -> None:
    """Send the retraining's branch.

    Where the remote has another branch of that name, as another clone has retrained the same data on that day, this
    one gets a name of its own.

    Args:
        root: the project's.
        night: the retraining.
        remote: of git.
        recorded: whether its record for other clones goes with it: both arrive, or neither.

    Raises:
        GitError: the remote refuses, or does not answer.
        MetaloomError: it has a branch that none of ours can be beside.
    """
    try:
        _push_branch(root, night, remote, recorded)
    except GitError:
        if asked(root, "ls-remote", remote, f"refs/heads/{RETRAIN}"):
            raise MetaloomError(in_the_way(f"git push {remote} --delete {RETRAIN}")) from None
        if not _set_apart(root, night, remote):
            raise
        _push_branch(root, night, remote, recorded)


def _push_branch(root: Path, night: Night, remote: str, recorded: bool) -> None:
    refs = [f"{night.commit}:refs/heads/{night.branch}"]
    if recorded:
        record = others.shared(root, night)
        refs.append(f"+{record}:{record}")
    git(root, "push", "--quiet", *(["--atomic"] if recorded else []), remote, *refs)


def _set_apart(root: Path, night: Night, remote: str) -> bool:
    """Rename the branch, if the remote has another one of its name."""
    name = night.branch
    before = f"refs/heads/{name}"
    theirs = asked(root, "ls-remote", remote, before).partition("\t")[0]
    if night.apart or theirs in ("", night.commit):
        return False
    night.apart = True
    night.notes = [line.replace(f"`git merge {name}`", f"`git merge {night.branch}`") for line in night.notes]
    put_on_branch(root, night, night.commit)
    if asked(root, "rev-parse", "--verify", "--quiet", before) == night.commit:
        _drop(root, [before])
    return True


def fetch_ledger(root: Path, remote: str) -> None:
    """Have what other clones' judges have spent; where the remote has no ledger, or is away, what is known here counts.

    Args:
        root: the project's.
        remote: of git.
    """
    if asked(root, "ls-remote", remote, LEDGER):
        asked(root, "fetch", "--quiet", remote, f"+{LEDGER}:{THEIRS}")
        asked(root, "notes", f"--ref={NOTES}", "merge", "--strategy=cat_sort_uniq", THEIRS)


def push_ledger(root: Path, remote: str) -> None:
    """Send what the judge has spent here, together with what others have meanwhile; the next run sends it otherwise."""
    fetch_ledger(root, remote)
    if asked(root, "rev-parse", "--verify", "--quiet", LEDGER):
        asked(root, "push", "--quiet", remote, LEDGER)


def make_tags(root: Path, night: Night, stage: str, waiting: str) -> None:
    """Make the retraining's commit a version, and put it into a stage; what is so already stays.

    Args:
        root: the project's.
        night: gets the version and its tags.
        stage: "" for none.
        waiting: the stage of versions that wait for approval, which it leaves unless it is put there.

    Raises:
        MetaloomError: the bundle does not verify.
    """
    author, message = identity(root), night.verdict.get("message", "") or f"Retrained on data {night.data[:8]}"
    entry = judgement_of(root, night.champion, night.commit) if night.champion else None
    message = f"{message}\n\n{written(entry)}" if entry else message
    night.version = registry.register(root, night.commit, message, author)
    if stage:
        registry.put_into(root, night.version, stage, message, author)
    if stage != waiting:
        registry.take_out(root, night.version, waiting, message, author)
    night.tags = _tags_of(root, night)


def push_tags(root: Path, night: Night, remote: str) -> bool:
    """Send the retraining's tags; where they do not arrive they are gone here too, so that no stage is half moved.

    Returns:
        False where the remote has others of these names: somebody has promoted meanwhile, and theirs are here now.

    Raises:
        GitError: the remote refuses, or does not answer.
    """
    try:
        git(root, "push", "--quiet", "--atomic", remote, *night.tags)
    except GitError:
        try:
            taken = drop_taken(root, night, remote)
        except GitError:
            taken = False
        _drop(root, night.tags)
        night.tags, night.version = [], ""
        if not taken:
            raise
        fetch_tags(root, remote)
        return False
    return True


def leave_stage(root: Path, night: Night, stage: str, remote: str) -> None:
    """Have a version that nobody approved leave its stage, here and in git's remote, or in neither.

    Args:
        root: the project's.
        night: whose version it is.
        stage: that it leaves, if it is there.
        remote: "" for none.

    Raises:
        GitError: the remote refuses, or does not answer.
    """
    left = registry.take_out(root, night.version, stage, night.reason, identity(root))
    # all of them: it may be in another stage by hand, or was killed before it had sent them
    tags = _tags_of(root, night) if remote else []
    if not tags:  # git would push the branch
        return
    try:
        git(root, "push", "--quiet", "--atomic", remote, *tags)
    except GitError:
        _drop(root, [left] if left else [])
        raise
    night.tags = tags


def drop_taken(root: Path, night: Night, remote: str) -> bool:
    """Remove tags at the retraining's commit of whose names the remote has others; whether there were any."""
    lines = git(root, "ls-remote", "--tags", "--refs", remote, TAGS).splitlines()
    theirs = {ref: tag for tag, ref in (line.split() for line in lines)}
    ours = {ref: tag for ref, tag in tags_at(root).items() if night.commit and _commit_of(root, ref) == night.commit}
    taken = [ref for ref, tag in ours.items() if theirs.get(ref, tag) != tag]
    _drop(root, taken)
    return bool(taken)


def _drop(root: Path, refs: list[str]) -> None:
    for ref in refs:
        git(root, "update-ref", "-d", ref)


def _tags_of(root: Path, night: Night) -> list[str]:
    return [ref for ref in tags_at(root) if _commit_of(root, ref) == night.commit]


def _commit_of(root: Path, ref: str) -> str:
    return asked(root, "rev-parse", f"{ref}^{{commit}}")
