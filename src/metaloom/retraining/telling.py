"""A person is told: once for each cause, and not again every night."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaloom.config import PARAMS, load_settings
from metaloom.config.retraining import RetrainSettings
from metaloom.errors import MetaloomError
from metaloom.retraining.nights import DAY, FOLDER, last_ended
from metaloom.retraining.receivers import send
from metaloom.system.escaping import told
from metaloom.system.files import read_json, write_json
from metaloom.system.lock import BusyError
from metaloom.system.permissions import unable
from metaloom.system.quantities import size
from metaloom.system.terminal import say

TOLD = f"{FOLDER}/told.json"  # the cause that was told last, and whether that was told that all is quiet
TELLS = ("failed", "held", "promoted", "candidate")
FAILED = "retraining failed: "
FULL = 1 << 20  # bytes; with fewer left a disk is full


def tell(root: Path, settings: RetrainSettings, cause: str, message: str) -> bool:
    """Tell what a run came to, if that is worth telling and was not told before; whether that is done with.

    Args:
        root: the project's.
        settings: who is told.
        cause: `failed`, or the outcome of a retraining.
        message: a line.
    """
    known = _read(root)
    failed = _cause(message) if cause == "failed" else None
    if failed and known.get("failed") == failed:
        return True
    if cause in TELLS and not _sent(settings, cause, message):
        return False  # told by the next run, if it is still so
    _write(root, known | {"failed": failed})
    return True


@contextmanager
def failures_told(root: Path, settings: RetrainSettings) -> Iterator[None]:
    """Tell a person what ends the block, whatever it is: nobody reads a traceback at night.

    Args:
        root: the project's.
        settings: who is told.

    Raises:
        MetaloomError: in place of an error of the system's, with what to do: the disk is full, or a right is missing.
            Any other exception is raised as it was.
    """
    try:
        yield
    except Exception as error:  # mistakes of ours too; always raised again
        line = _line(root, error)
        with suppress(OSError):  # a full disk cannot keep what was told: the next night tells it again
            tell(root, settings, "failed", f"{FAILED}{line or f'{type(error).__name__}: {error}'}")
        if line in ("", str(error)):
            raise
        raise MetaloomError(line) from error


def _line(root: Path, error: Exception) -> str:
    """What ended it and what to do, in a line; "" where it is a mistake of ours."""
    if isinstance(error, OSError):
        return unable(error)
    if not isinstance(error, MetaloomError):
        return ""
    free = shutil.disk_usage(root).free  # git and DVC do not always say that it is this
    return f"{error}; the disk has {size(free)} left: free some room" if free < FULL else str(error)


def tell_failed(root: Path, error: MetaloomError) -> None:
    """Tell of a run that ended before it came to its retraining; nobody where the settings cannot be read.

    That another one is at work is no failure, and that one tells what becomes of it.

    Args:
        root: the project's.
        error: that ended it.
    """
    if isinstance(error, BusyError):
        return
    with suppress(MetaloomError, OSError):
        tell(root, load_settings(root / PARAMS).retrain, "failed", f"{FAILED}{error}")


def tell_quiet(root: Path, settings: RetrainSettings, now: float) -> None:
    """Nothing is new: tell so where it has been like that for `quiet_days`, once.

    Args:
        root: the project's.
        settings: who is told, and after how many days.
        now: Unix time.
    """
    known = _read(root) | {"failed": None}
    last = last_ended(root)
    if settings.quiet_days and last and now - last > settings.quiet_days * DAY and known.get("quiet") != last:
        message = f"for {(now - last) / DAY:.0f} days no retraining has brought anything new"
        if _sent(settings, "quiet", message):
            known["quiet"] = last
    _write(root, known)


def _cause(message: str) -> str:
    """The message without what is another every night: dates, hashes and numbers."""
    return re.sub(r"\b[0-9a-f]{7,}\b|\d+", "#", message)


def _sent(settings: RetrainSettings, cause: str, message: str) -> bool:
    """Whether there is nobody to tell, or it has arrived."""
    text = told(f"{settings.name}: {message}")  # for a person; `message` is for programs
    body = {"text": text, "cause": cause, "project": settings.name, "message": message}
    try:
        send(settings.notify, f"metaloom {settings.name}: {cause}", body)
    except MetaloomError as error:
        say(f"nobody could be told: {error}")
        return False
    return True


def _read(root: Path) -> dict[str, Any]:
    path = root / TOLD
    try:
        found = read_json(path) if path.is_file() else {}
    except MetaloomError:
        return {}
    return found if isinstance(found, dict) else {}


def _write(root: Path, known: dict[str, Any]) -> None:
    if known != _read(root):
        write_json(root / TOLD, known)
