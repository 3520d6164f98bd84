"""A bundle may come from a stranger: a command opens and asks it within limits of time and memory, as `verify` does.

`predict` as a function has none: a limit of time ends the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from metaloom.errors import BAD_INPUT, MetaloomError
from metaloom.handoff.shipped.verify import OPTIONS, RUNTIME_ERRORS, SUMS, Bundle, check_files, open_bundle
from metaloom.system.terminal import complain

SECONDS, GIGABYTES = float(OPTIONS["--seconds"]), float(OPTIONS["--gigabytes"])
MOST = 1e9  # of either: what the system can count to
_seconds: ContextVar[float | None] = ContextVar("seconds", default=None)  # None: no limit


@contextmanager
def limited(bundle: str | Path, seconds: float = SECONDS, gigabytes: float = GIGABYTES) -> Iterator[None]:
    """Limit the process's memory inside this block, and the time that each block under `timed` in it may take.

    Raises:
        MetaloomError: a limit is no such number, the bundle wants more memory, or a graph of it fails.
    """
    if not (0 < seconds <= MOST and 0 < gigabytes <= MOST):
        raise MetaloomError(f"--seconds {seconds:g} --gigabytes {gigabytes:g}: give numbers above 0, up to {MOST:g}")
    token = _seconds.set(seconds)
    try:
        with _memory(gigabytes):
            yield
    except (*RUNTIME_ERRORS, MemoryError, RecursionError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise MetaloomError(
            f"{bundle} cannot be used: {why} (it may take {gigabytes:g} GB of memory: `metaloom verify` says more)"
        ) from None
    finally:
        _seconds.reset(token)


@contextmanager
def timed(bundle: str | Path) -> Iterator[None]:
    """End the process with one line when the block takes too long: a graph that runs cannot be ended otherwise."""
    seconds = _seconds.get()
    if seconds is None:
        yield
        return

    def end() -> None:
        complain(f"error: {bundle} takes more than {seconds:g} s: a graph of it may have no end; --seconds allows more")
        os._exit(BAD_INPUT)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _memory(gigabytes: float) -> Iterator[None]:
    try:
        import resource
    except ImportError:  # not on this system: the limit of time remains
        yield
        return
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    size = min([int(gigabytes * 1e9), *(each for each in (before, most) if each != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def usable(bundle: str | Path, graphs: list[str], threads: int = 0) -> Bundle:
    """A bundle whose files are whole, with these of its graphs loaded.

    Args:
        bundle: its folder.
        graphs: their names.
        threads: that answer a question; 0: one for each core.

    Raises:
        MetaloomError: it is damaged or incomplete.
    """
    with timed(bundle):
        opened, problems = open_bundle(Path(bundle), graphs, threads=threads)
    if opened is None:
        if not (Path(bundle) / SUMS).is_file():
            raise MetaloomError(f"{problems[0]}: give the folder of a bundle, as `metaloom adapt` or `run` makes it")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        remedy = "get a whole copy" if check_files(Path(bundle)) else "make it again with this version of metaloom"
        raise MetaloomError(f"{bundle} cannot be used: {problems[0]}{more}; {remedy}")
    return opened
