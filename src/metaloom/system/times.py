"""How long a stage's work took. That differs from run to run, so it is kept beside the outputs and not in them.

Git and DVC then see a change only where a result has changed. Times stand in `.metaloom/times/`, in files that are
named by the hash of what they were measured on: those of another run's result are not shown as this one's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.files import read_json, sha256, write_json
from metaloom.system.lock import STATE

FOLDER = Path(STATE, "times")


def note_times(name: str, of: Path, times: dict[str, Any]) -> None:
    """Keep the times of a result, in the project that the working directory is the root of.

    Args:
        name: of the method, or of the stage.
        of: the file that says which result it was; it is there already.
        times: that were measured.
    """
    write_json(_place(Path(), name, sha256(of)), times)


def noted_times(root: Path, name: str, of: Path) -> dict[str, Any]:
    """What `note_times` kept of this result; nothing where there is none."""
    if not of.is_file() or not (path := _place(root, name, sha256(of))).is_file():
        return {}
    try:
        return dict(read_json(path))
    except (MetaloomError, TypeError, ValueError):  # cut off, or edited: times are worth no failed report
        return {}


def _place(root: Path, name: str, of: str) -> Path:
    return root / FOLDER / f"{name}-{of[:16]}.json"
