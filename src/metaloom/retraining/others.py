"""Retrainings by other clones of the project: their records lie in git's remote, beside the branches.

A record is a ref that names a blob, so it is no part of any branch and needs no merge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

from metaloom.retraining.git import asked, git
from metaloom.retraining.nights import Night, night_of, nights

REFS = "refs/metaloom/nights"
KNOWN = {each.name for each in fields(Night)}
HEADER = re.compile(r"([0-9a-f]{40,64}) (?:[a-z]+ \d+|missing)")
NAME, HASH = re.compile(r"[0-9A-Za-z-]{1,100}"), re.compile(r"[0-9a-f]{40,64}")


def ref_of(root: Path, night: Night) -> str:
    """The ref that names the record as it is now, in this repository."""
    blob = git(root, "hash-object", "-w", "--stdin", stdin=json.dumps(asdict(night)))
    ref = f"{REFS}/{night.name}"
    git(root, "update-ref", ref, blob)
    return ref


def shared(root: Path, night: Night) -> str:
    """The same of one whose branch arrives together with it."""
    return ref_of(root, replace(night, done=list(dict.fromkeys([*night.done, "share"]))))


def tell_others(root: Path, night: Night, remote: str) -> None:
    """Send the record; where it does not arrive, others go on with what is done, which changes nothing."""
    ref = ref_of(root, night)
    asked(root, "push", "--quiet", "--force", remote, f"{ref}:{ref}")


def take_records(root: Path, remote: str) -> list[Night]:
    """Have the records of other clones' retrainings, and the branches with their results.

    Args:
        root: the project's.
        remote: of git.

    Returns:
        Those that were not known here.

    Raises:
        GitError: the remote does not answer.
    """
    branches = f"+refs/heads/retrain/*:refs/remotes/{remote}/retrain/*"
    git(root, "fetch", "--quiet", "--no-tags", remote, branches, f"+{REFS}/*:{REFS}/*")
    ours = {night.name: night for night in nights(root)}
    found = [night for night in _records(root) if _is_further(night, ours.get(night.name)) and _is_here(root, night)]
    for night in found:
        night.save(root)
    return found


def _records(root: Path) -> Iterator[Night]:
    """Whole ones alone: whoever may push can write them, and their names become those of files here."""
    lines = asked(root, "for-each-ref", "--format=%(refname:lstrip=3) %(objectname)", REFS).splitlines()
    blobs = dict(line.split() for line in lines)
    texts = _texts(git(root, "cat-file", "--batch", stdin="\n".join(blobs.values()))) if blobs else {}
    for name, blob in blobs.items():
        try:
            known = json.loads(texts.get(blob, ""))
            found = night_of({key: known[key] for key in known.keys() & KNOWN})  # a newer metaloom has more
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
        if (
            found.name == name
            and NAME.fullmatch(name)
            and all(map(HASH.fullmatch, (found.commit, found.base, found.key)))
        ):
            yield found


def _texts(batch: str) -> dict[str, str]:
    """What `git cat-file --batch` prints, by the objects' hashes."""
    texts: dict[str, list[str]] = {}
    own: list[str] = []
    for line in batch.splitlines():
        if header := HEADER.fullmatch(line):
            own = texts[header[1]] = []
        else:
            own.append(line)
    return {blob: "\n".join(lines) for blob, lines in texts.items()}


def _is_further(there: Night, here: Night | None) -> bool:
    """Whether the record of another clone counts, and not the one of the same name that is here."""
    if here is None:
        return True
    if here.outcome == "candidate":  # somebody may have answered there
        return there.outcome not in ("", "candidate")
    return not here.outcome and (bool(there.outcome) or here.commit != there.commit)


def _is_here(root: Path, night: Night) -> bool:
    """Whether its result is here, or is no longer wanted: somebody may have deleted the branch."""
    return bool(night.outcome or asked(root, "rev-parse", "--verify", "--quiet", f"{night.commit}^{{commit}}"))
