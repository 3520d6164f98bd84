"""What a model does not read of a user's own files, such as their colours: looked for in some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloom.kinds import Kind

SOME = 20  # files that are looked at


@dataclass
class Lost:
    """Counts files of which something gets lost.

    Args:
        kind: as the model reads them.
    """

    kind: Kind
    seen: int = 0
    having: int = 0

    def look(self, path: str | Path) -> None:
        """Look at one more file, unless enough have been, or nothing can get lost."""
        if self.seen >= SOME or not self.kind.loses:
            return
        try:
            found = self.kind.look(Path(path).read_bytes())
        except (OSError, ValueError):  # who reads it says so
            return
        if found is not None:
            self.seen, self.having = self.seen + 1, self.having + found

    @property
    def sentence(self) -> str:
        """What gets lost; "" where nothing does."""
        return self.kind.loss(self.having, self.seen) if self.having else ""


def lost_of(files: Sequence[Path], kind: Kind) -> str:
    """The sentence about these files, of which some are looked at, from the first to the last."""
    lost, step = Lost(kind), max(1, len(files) // SOME)
    for path in files[::step]:
        lost.look(path)
    return lost.sentence
