"""git as a program that nobody watches: no questions, no hooks, and what went wrong in one line."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from metaloom.errors import MetaloomError

SECONDS = 600  # that git may take, over a network too
PLAIN = (
    "core.hooksPath=/dev/null",
    "core.safecrlf=false",
    "commit.gpgsign=false",
    "tag.gpgsign=false",
    "push.gpgSign=false",
    "advice.detachedHead=false",
)
UNPRUNED = ("--no-prune", "--no-prune-tags")  # a tag that is not sent yet is in no remote, and is not to go for that
NOBODY = ("metaloom", "metaloom@localhost")  # who commits where git knows no name
NO_QUESTIONS = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
SAID = re.compile(r"^\s*(?:fatal|error|remote: error|! \[)[^\n]*", re.MULTILINE)
HOOKS = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
TAGS = "refs/tags/handoff*"


class GitError(MetaloomError):
    """git has refused; the message is its own."""


def git(root: str | Path, *arguments: str, stdin: str | None = None, **environment: str) -> str:
    """What git prints, without white space at its ends.

    Args:
        root: where it is run.
        arguments: its own.
        stdin: that it reads.
        environment: more of it.

    Raises:
        GitError: it refuses, hangs or is not installed.
    """
    options = [each for setting in PLAIN for each in ("-c", setting)]
    if arguments[0] == "fetch":
        arguments = ("fetch", *UNPRUNED, *arguments[1:])
    batch = {"GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")}
    try:
        done = subprocess.run(
            ["git", *options, "-C", str(root), *arguments],
            env={**os.environ, **NO_QUESTIONS, **batch, **environment},
            input=stdin or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise GitError("git is not installed: a project is versioned with it") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"`git {arguments[0]}` was ended after {SECONDS} s without an answer") from None
    if done.returncode:
        shown = [each for each in arguments if each not in UNPRUNED][:2]
        raise GitError(f"`git {' '.join(shown)}`: {_reason(done.stderr)}")
    return done.stdout.strip()


def forget_hook() -> None:
    """Take what git tells its hooks out of the environment: it is of one repository, and of no worktree of it."""
    for name in HOOKS:
        os.environ.pop(name, None)


def _reason(said: str) -> str:
    """The lines that say why, as one."""
    lines = [" ".join(each.split()) for each in SAID.findall(said)] or [" ".join(said.split())]
    refused = [each for each in lines if each.startswith("! [")]
    return "; ".join(refused or lines[:2])[:400] or "no reason given"


def asked(root: str | Path, *arguments: str) -> str:
    """The same; empty where git refuses."""
    try:
        return git(root, *arguments)
    except GitError:
        return ""


def file_at(root: str | Path, commit: str, path: str) -> str:
    """The text of a file of a commit, by its path from `root`; empty where it has none."""
    return asked(root, "show", f"{commit}:./{path}")


def submodules(root: str | Path, commit: str) -> dict[str, str]:
    """The commits of the submodules, by their paths in the repository."""
    if not asked(root, "cat-file", "-t", f"{commit}:.gitmodules"):
        return {}
    entries = asked(root, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    found = (entry.partition("\t") for entry in entries if entry.startswith("160000 "))
    return {path: about.split()[2] for about, _, path in found}


def identity(root: str | Path) -> tuple[str, str]:
    """Name and address of who commits; `NOBODY` where git knows none."""
    found = re.match(r"(.+) <(.+)> \d+ ", asked(root, "var", "GIT_COMMITTER_IDENT") + " ")
    return (found[1], found[2]) if found else NOBODY


def head(root: str | Path) -> str:
    """The commit that the checkout stands at.

    Raises:
        MetaloomError: there is none, or no git.
    """
    if commit := asked(root, "rev-parse", "--verify", "--quiet", "HEAD"):
        return commit
    raise MetaloomError(
        "a retraining starts from a commit, and there is none here: `git init` if need be, then `git add -A` and "
        "`git commit`"
    )


def remote_of(root: str | Path) -> str:
    """The remote of the branch that is checked out, else `origin`, else the only one; empty where there is none."""
    branch = asked(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    remotes = asked(root, "remote").split()
    configured = asked(root, "config", f"branch.{branch}.remote") if branch else ""
    if configured in remotes:
        return configured
    if "origin" in remotes:
        return "origin"
    return remotes[0] if len(remotes) == 1 else ""


def fetch_tags(root: str | Path, remote: str) -> None:
    """Have the remote's tags of models, with what they stand for: a shallow clone may lack some.

    Raises:
        GitError: the remote does not answer, or has a tag of the same name at another commit.
    """
    try:
        git(root, "fetch", "--no-tags", remote, f"{TAGS}:{TAGS}")  # --quiet would keep silent about which tag it is
    except GitError as error:
        if "would clobber" not in str(error):
            raise
        raise GitError(
            f"a tag of a model is another one in {remote} ({error}): `git fetch {remote} --tags --force` takes theirs"
        ) from None


def tags_at(root: str | Path) -> dict[str, str]:
    """The tags of models here, each with the object that it is."""
    lines = asked(root, "for-each-ref", "--format=%(refname) %(objectname)", TAGS).splitlines()
    return dict(line.split() for line in lines)
