"""Names that DVC keeps for itself: with such a file among the data it refuses them, or leaves out what is beside it."""

from __future__ import annotations

import os
from pathlib import Path

from metaloom.errors import MetaloomError

UNSEEN = (".git", ".hg")  # DVC does not look into these
STAGES = "dvc.yaml"  # and files that end in PROJECT
PROJECT = ".dvc"  # a folder beside a project's files, too
RULES = ".dvcignore"


def refuse_reserved(folder: Path) -> None:
    """Look for them in a folder of data, and all below it.

    Raises:
        MetaloomError: there is one; the message names it.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in UNSEEN]
        taken = [name for name in files if name in (RULES, STAGES) or name.endswith(PROJECT)]
        taken += [name for name in folders if name == PROJECT]
        if taken:
            path = Path(place, min(taken))
            if path.name == PROJECT and path.is_dir():
                raise MetaloomError(f"{path.parent} is a project of DVC's, not data: name the folder of data inside it")
            raise MetaloomError(
                f"{path} is one of DVC's own files, which no data may hold{_why(path)}: remove it there"
            )


def _why(path: Path) -> str:
    return f" (DVC would leave out {path.parent})" if path.name == PROJECT else ""
