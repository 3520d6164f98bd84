"""What no data may hold: names that no file system takes or that DVC keeps for itself, what is no file, and folders too
deep for DVC to walk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.system.files import special

UNSEEN = (".git", ".hg")  # DVC does not look into these
STAGES = "dvc.yaml"  # and files that end in PROJECT
PROJECT = ".dvc"  # a folder beside a project's files, too
RULES = ".dvcignore"
DEEPEST = 100  # folders in one another; Python, and so DVC, gives up before a thousand
LONGEST = 255  # bytes of a name, on any usual file system


def refuse_reserved(folder: Path, links: bool = False) -> None:
    """Look for them in a folder of data, and all below it.

    Args:
        folder: of data.
        links: refuse links that lead nowhere, too: DVC makes no version of them.

    Raises:
        MetaloomError: there is one; the message names it.
    """
    for place, folders, files in _walk(folder):
        taken = [each.name for each in files if each.name in (RULES, STAGES) or each.name.endswith(PROJECT)]
        taken += [each.name for each in folders if each.name == PROJECT]
        if taken:
            path = Path(place, min(taken))
            if path.name == PROJECT and path.is_dir():
                raise MetaloomError(f"{path.parent} is a project of DVC's, not data: name the folder of data inside it")
            raise MetaloomError(
                f"{path} is one of DVC's own files, which no data may hold{_why(path)}: remove it there"
            )
        for each in sorted(files, key=lambda entry: entry.name):
            _refuse_special(each, links)


def _walk(folder: Path) -> Iterator[tuple[str, list[os.DirEntry[str]], list[os.DirEntry[str]]]]:
    """Each folder with the folders and files in it, as `os.walk` has them, but of any depth up to `DEEPEST`."""
    waiting = [(str(folder), 1)]
    while waiting:
        place, depth = waiting.pop()
        try:
            with os.scandir(place) as entries:
                inside = list(entries)
        except OSError:  # absent, or another user's: who reads it says so
            continue
        folders = [each for each in inside if each.is_dir(follow_symlinks=False) and each.name not in UNSEEN]
        if folders and depth > DEEPEST:
            raise MetaloomError(
                f"{place[:200]}… has more than {DEEPEST} folders in one another: put it together higher"
            )
        yield place, folders, [each for each in inside if not each.is_dir(follow_symlinks=False)]
        waiting += [(each.path, depth + 1) for each in folders]


def _refuse_special(entry: os.DirEntry[str], links: bool) -> None:
    """A pipe, on which reading waits for ever, and the like; links as in `refuse_reserved`."""
    if entry.is_file(follow_symlinks=False):
        return
    if what := special(entry.path):
        raise MetaloomError(f"{entry.path} is a {what}, not a file: remove it there")
    if links and not Path(entry.path).exists():
        raise MetaloomError(f"{entry.path} is a link that leads nowhere: remove it, or put the file there")


def _why(path: Path) -> str:
    return f" (DVC would leave out {path.parent})" if path.name == PROJECT else ""


def check_name(name: str, given: str) -> None:
    """Look whether a folder or file could have the name, and be seen.

    Args:
        name: of one folder or file.
        given: where it comes from, for the message.

    Raises:
        MetaloomError: it is empty, has a slash or NUL, begins with a dot, is no UTF-8 or too long.
    """
    if not name or name != Path(name).name or name.startswith("."):
        raise MetaloomError(f"{given}{name!r}: give one name, without slashes and without a dot at the front")
    if "\0" in name:
        raise MetaloomError(f"{given}{name!r} has a NUL character, which no name has")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise MetaloomError(f"{given}{name!r} is no valid UTF-8: give another name") from None
    if size > LONGEST:
        raise MetaloomError(f"{given}{name[:40]!r}… has {size} bytes, and a name has at most {LONGEST}")
