"""What several commands need of the project: its root, its trained models, exit codes and signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from metaloom.errors import MetaloomError
from metaloom.versioning.project import find_root

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143  # exit codes; 2 is bad input
MODELS = Path("artifacts/models")
TrainedMethod = Annotated[
    str | None, typer.Option(help="Meta-learner of artifacts/models to adapt; without it their champion.")
]


def enter_project() -> Path:
    """Go to the project's root, where `flows` is."""
    root = find_root()
    os.chdir(root)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind, so that stages and a temporary server are ended too."""

    def terminate(*_: Any) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the next run goes on from there", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _trained(method: str) -> Path:
    if not (MODELS / method / "learner.json").is_file():
        there = sorted(path.parent.name for path in MODELS.glob("*/learner.json"))
        known = f"there are {', '.join(there)}" if there else "`metaloom run` trains them"
        raise MetaloomError(f"{MODELS} has no meta-learner {method!r}: {known}")
    return MODELS / method


def trained_or_champion(method: str | None) -> Path:
    """The folder of a method's meta-learner; without a method, of the one that validates best."""
    if method:
        return _trained(method)
    from metaloom.config import load_settings
    from metaloom.learner import champion

    return MODELS / champion(MODELS, load_settings().methods)
