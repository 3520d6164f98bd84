"""The commit that the project stands at."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path


def revision(root: str | Path, name: str = "HEAD") -> str:
    """The name of the commit, or of what a branch or tag is; empty outside git and where there is none."""
    return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", name)


def last_change(root: str | Path, *paths: str) -> str:
    """The last commit that changed any of them, so that they are there as they are now; empty where none did."""
    return _git(root, "log", "-1", "--format=%H", "--", *paths)


def changed(root: str | Path, *paths: str) -> bool:
    """Whether any of them differs from the commit."""
    return bool(differing(root, *paths))


def differing(root: str | Path, *paths: str) -> list[str]:
    """The files that differ from the commit, those that git does not know among them: of these paths, or of all."""
    lines = _git(root, "status", "--porcelain", "--", *paths).splitlines()
    return [line.split(maxsplit=1)[1] for line in lines]


def committed(root: str | Path, path: str) -> str | None:
    """The text of a file under `root` as the commit has it; None outside git, or where the commit has no such file."""
    return _git(root, "show", f"HEAD:./{path}") or None


def _git(root: str | Path, *arguments: str) -> str:
    plain = ["-c", "log.showSignature=false", "-c", "color.ui=false"]  # whatever the user's own settings add
    command = ["git", "--no-optional-locks", *plain, "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, ValueError, subprocess.TimeoutExpired):  # not installed, no legal argument, or it waits for a disk
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def refs(root: str | Path) -> list[str]:
    """All branches, those of remotes too, and tags by their short names."""
    return _git(
        root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags"
    ).splitlines()


def tags(root: str | Path) -> list[str]:
    """All tags."""
    return _git(root, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags").splitlines()


def tags_as_they_are(root: str | Path) -> str:
    """All tags with the objects that they are, a line each: another text when any of them is another one."""
    return _git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/tags")


def prefix(root: str | Path) -> str:
    """The folders from the top of the repository to this one, "a/b/"; empty at the top, and outside git."""
    return _git(root, "rev-parse", "--show-prefix")


def dates_of(root: str | Path, path: str) -> dict[str, str]:
    """The commits of all branches and tags in which a file became another, the newest first, with their days."""
    lines = _git(root, "log", "--all", "--format=%H %cs", "--", path).splitlines()
    return {commit: day for commit, day in (line.split() for line in lines)}


def found_in_refs(
    root: str | Path, pattern: str, path: str, names: list[str] | None = None, named: bool = False
) -> list[str]:
    """What a file under `root` has of a pattern, in each of its versions.

    Args:
        root: the folder.
        pattern: an extended regular expression, for a part of a line.
        path: of the file.
        names: of commits, branches or tags; None: all branches and tags.
        named: put `NAME:PATH:` in front of each.
    """
    names = refs(root) if names is None else names
    if not names:
        return []
    plain = ["--no-color", "--no-line-number", "--no-column", "--no-full-name", *([] if named else ["-h"])]
    return _git(root, "grep", *plain, "-o", "-E", pattern, *names, "--", path).splitlines()


def holds_blob(root: str | Path, content: bytes) -> bool:
    """Whether git itself has a file with this content, in any commit or in none."""
    name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 (git's own name for it)
    return _git(root, "cat-file", "-t", name) == "blob"
