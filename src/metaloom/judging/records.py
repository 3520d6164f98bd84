"""The ledger in git: notes beside commits, and messages of tags."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.judging.ledger import Entry, entries, merged, written
from metaloom.system.git import revision
from metaloom.system.plural import some
from metaloom.versioning.paths import BUNDLE
from metaloom.versioning.revisions import resolved

NOTES = "judge"  # git log --notes=judge; shared with `git push origin refs/notes/judge`
NOBODY = ("-c", "user.name=metaloom", "-c", "user.email=metaloom@localhost")  # where git knows no name for its user
TRIES = 3  # another judgement may write at the same moment


def read_ledger(root: Path) -> list[Entry]:
    """All judgements that this clone knows of, by time.

    Raises:
        MetaloomError: git does not answer.
    """
    shown = _git(root, "for-each-ref", "--format=%(contents)", f"refs/tags/{BUNDLE}*")
    listed = _git(root, "notes", f"--ref={NOTES}", "list").split()
    notes = _git(root, "cat-file", "--batch", given="\n".join(listed[::2])) if listed else ""
    return merged(entries(f"{shown}\n{notes}"))


def record(root: Path, entry: Entry) -> None:
    """Add a line to the note of the challenger's commit.

    Raises:
        MetaloomError: git refuses.
    """
    words = (*_who(root), "notes", f"--ref={NOTES}", "append", "-m", written(entry), entry.challenger)
    for _ in range(TRIES - 1):
        if _runs(root, *words):
            return
    _git(root, *words)


def moved(root: Path, old: str, new: str) -> None:
    """Have the judgements of a commit stand beside another one of the same files, which is asked the same.

    Args:
        root: of the project.
        old: commit that was judged, and that nothing names.
        new: the one that stays.

    Raises:
        MetaloomError: git refuses.
    """
    shown = ("notes", f"--ref={NOTES}", "show", old)
    if old == new or not _runs(root, *shown):
        return
    for each in entries(_git(root, *shown)):
        record(root, replace(each, challenger=new))
    _git(root, *_who(root), "notes", f"--ref={NOTES}", "remove", "--ignore-missing", old)


def judgement_of(root: Path, champion: str, challenger: str) -> Entry | None:
    """The last judgement of two versions, branches, tags or commits.

    Raises:
        MetaloomError: git does not answer.
    """
    found = [each for each in _of_pair(root, champion, challenger) if not each.of_shadow]
    return found[-1] if found else None


def shadowed(root: Path, champion: str, challenger: str) -> Entry | None:
    """What labelled inputs of real use have decided about the two; None where they have not.

    Raises:
        MetaloomError: git does not answer.
    """
    found = [each for each in _of_pair(root, champion, challenger) if each.of_shadow and each.outcome != "undecided"]
    return found[-1] if found else None


def _of_pair(root: Path, champion: str, challenger: str) -> list[Entry]:
    pair = tuple(revision(root, f"{resolved(root, each)}^{{commit}}") for each in (champion, challenger))
    return [each for each in read_ledger(root) if (each.champion, each.challenger) == pair]


def _who(root: Path) -> tuple[str, ...]:
    """Options for who writes."""
    return () if _runs(root, "var", "GIT_COMMITTER_IDENT") else NOBODY


def _runs(root: Path, *words: str) -> bool:
    try:
        _git(root, *words)
    except MetaloomError:
        return False
    return True


def _git(root: Path, *words: str, given: str = "") -> str:
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(root), *words]
    try:
        done = subprocess.run(command, input=given, capture_output=True, encoding="utf-8", errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MetaloomError(f"the ledger cannot be read or written: git {words[0]}: {error}") from None
    if done.returncode:
        told = some(done.stderr.strip().splitlines() or ["no reason given"], 2)
        raise MetaloomError(f"the ledger cannot be read or written: git {words[0]}: {told}")
    return done.stdout
