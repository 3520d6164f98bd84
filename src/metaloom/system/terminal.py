"""Progress bars and messages, in one place so that --quiet is one switch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # a command without a bar need not wait for rich
    from rich.console import Console
    from rich.progress import Progress, TaskID

QUIET = "METALOOM_QUIET"  # an environment variable, so that stages run by DVC hear of it too
SILENT = 30.0  # seconds without a line, after which a log has one about what goes on
MOST_LINES = 20  # of a bar: from ten minutes on, a log has its next line after a twentieth of the time gone
T = TypeVar("T")


@cache
def console() -> Console:
    """Standard error, where bars are drawn."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _shown(text: str, line: bool = False) -> str:
    from metaloom.system.escaping import on_one_line, shown  # not above, where it would count as what outputs depend on

    return on_one_line(text) if line else shown(text)


def quiet() -> bool:
    """Whether --quiet was given, here or by a parent process."""
    return os.environ.get(QUIET, "") not in ("", "0")


def shows_bars() -> bool:
    """Whether progress bars are seen: in a log they are not."""
    return console().is_terminal and not quiet()


class _Log:
    """When this process last said something."""

    spoken = time.monotonic()


def say(message: str) -> None:
    """One line for the user on standard output; silent under --quiet."""
    if not quiet():
        print(_shown(message), flush=True)
        _Log.spoken = time.monotonic()


def show(result: str) -> None:
    """Print what a command was asked for, also under --quiet; names in it may be a stranger's."""
    print(_shown(result), flush=True)


def complain(message: str) -> None:
    """Write a message to standard error, for the user."""
    print(_shown(message), file=sys.stderr, flush=True)


class Bar:
    """A running progress bar; `text` is shown beside it. In a log it is a line now and then."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task, self._began = progress, task, time.monotonic()

    def update(self, completed: float, text: str = "") -> None:
        """Show how far it is, and a text beside it."""
        self._progress.update(self._task, completed=completed, text=_shown(text, line=True))
        if not shows_bars():
            self._log(completed, text)

    def _log(self, completed: float, text: str) -> None:
        now, task = time.monotonic(), self._progress.tasks[0]
        gone = now - self._began
        if now - max(_Log.spoken, self._began) >= max(SILENT, gone / MOST_LINES):
            minutes, seconds = divmod(round(gone), 60)
            beside = f", {text}" if text else ""
            say(f"{task.description}: {completed:g} of {task.total:g} after {minutes}:{seconds:02} min{beside}")


@contextmanager
def bar(description: str, total: float, text: str = "") -> Iterator[Bar]:
    """A bar on standard error with the time left, gone when done; in a log, a line about every 30 s instead."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console(), transient=True, disable=not shows_bars()) as progress:
        yield Bar(progress, progress.add_task(description, total=total, text=_shown(text, line=True)))


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate under a bar."""
    with bar(description, total) as running:
        for done, item in enumerate(items, start=1):
            yield item
            running.update(done)
