"""Which examples were purged: purged.yaml, a small file that is committed, so that nobody takes them for lost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.system.files import write_text
from metaloom.system.git import found_in_refs

PURGED = "purged.yaml"  # in a project's root
HASH = r"[0-9a-f]{32}"
ABOUT = """\
# Examples that `metaloom data purge` took out of data/, DVC's cache and the remotes, by the hash that DVC gives a file.
# Versions of data/ that name them cannot be checked out whole any more; that is no damage.
"""


def purged(root: str | Path) -> set[str]:
    """Hashes of what was purged, here or in any branch or tag: a commit before the purge does not name it itself.

    Raises:
        MetaloomError: the file is no list of hashes.
    """
    return _own(Path(root, PURGED)) | {line.removeprefix("- ") for line in found_in_refs(root, f"^- {HASH}$", PURGED)}


def note_purged(root: Path, hashes: Iterable[str]) -> None:
    """Add hashes to purged.yaml."""
    path = root / PURGED
    write_text(path, ABOUT + "".join(f"- {each}\n" for each in sorted({*_own(path), *hashes})))


def lists_any(path: Path, hashes: set[str]) -> bool:
    """Whether a folder's list of files, as DVC's cache has it, names one of them; False where it is not there."""
    return path.is_file() and not hashes.isdisjoint(re.findall(f'"md5": "({HASH})"', path.read_text(encoding="utf-8")))


def _own(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if odd := next((line for line in lines if not re.fullmatch(f"- {HASH}", line)), None):
        raise MetaloomError(f"{path}: {odd[:60]!r} is no hash: `git checkout {path.name}` restores the last one")
    return {line.removeprefix("- ") for line in lines}
