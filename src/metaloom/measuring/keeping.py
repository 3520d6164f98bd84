"""What was measured here not long ago, so that a second `--minutes` is answered at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from metaloom import __version__
from metaloom.measuring.rates import Rates
from metaloom.planning.budget import settings_hash
from metaloom.system.files import write_text
from metaloom.system.lock import STATE
from metaloom.system.parallel import cores

MEASURED = Path(STATE, "measured.json")  # in a project's root
FRESH = 3600.0  # seconds that it counts: then other programs are at work on the machine


@dataclass(frozen=True)
class Question:
    """What rates depend on.

    Args:
        data: the version of data/.
        settings: a hash, see `settings_hash`.
        machine: its cores, and the version of this tool.
    """

    data: str | None
    settings: str
    machine: str

    @classmethod
    def here(cls, data: str | None, raw: dict[str, Any]) -> Question:
        """On this machine; `raw` is params.yaml under the overrides, as it is written."""
        return cls(data, settings_hash(raw), f"{cores()} cores, {__version__}")


@checked
class _File:
    question: Question
    at: float
    rates: dict[int, Rates]
    more_than: float


@dataclass
class Kept:
    """Rates by the width of the network.

    Args:
        question: what they were measured for; None: nothing is kept.
        rates: of all that was measured within the last hour.
        more_than: seconds that a run takes at least, where measuring was ended at that; else 0.
        clock: Unix time in seconds.
    """

    question: Question | None = None
    rates: dict[int, Rates] = field(default_factory=dict)
    more_than: float = 0.0
    clock: Callable[[], float] = time.time

    @classmethod
    def read(cls, question: Question, clock: Callable[[], float] = time.time) -> Kept:
        """What the project in the working directory keeps; empty where that is for something else, old or damaged."""
        try:
            found = TypeAdapter(_File).validate_json(MEASURED.read_bytes())
        except (OSError, ValidationError):
            return cls(question, clock=clock)
        if found.question != question or not 0 <= clock() - found.at < FRESH:
            return cls(question, clock=clock)
        return cls(question, found.rates, found.more_than, clock)

    def add(self, width: int, rates: Rates) -> None:
        """Keep what was measured with a network of this width."""
        self.rates[width] = rates
        self.more_than = 0.0
        self._write()

    def bound(self, seconds: float) -> None:
        """Keep that a run takes longer."""
        self.more_than = seconds
        self._write()

    def _write(self) -> None:
        if self.question is not None and os.access(STATE, os.W_OK):
            file = _File(self.question, self.clock(), self.rates, self.more_than)
            write_text(MEASURED, TypeAdapter(_File).dump_json(file, indent=1).decode())
