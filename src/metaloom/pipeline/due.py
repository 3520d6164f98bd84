"""When data/ may be taken: what is being copied there has to be whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from metaloom.system.files import stats
from metaloom.system.provenance import DATA
from metaloom.system.terminal import say


def await_settled(
    root: str | Path,
    settle: float,
    limit: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the newest file of data/ is `settle` seconds old: what is being copied there is whole then.

    Args:
        root: the project's root.
        settle: seconds.
        limit: seconds to wait at most.
        clock: Unix time.
        sleep: for so many seconds.

    Returns:
        Whether it is so; false after `limit`.
    """
    end = clock() + limit
    while (young := _newest(Path(root, DATA)) + settle - clock()) > 0:
        left = end - clock()
        if left <= 0:
            say(f"{DATA}/ still changes after {limit:g} s: what is there now is taken")
            return False
        sleep(min(young, left))
    return True


def changes(
    root: str | Path,
    settle: float,
    every: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Look at data/ for ever, and yield as soon as it has settled: at the start, and whenever it has changed.

    Args:
        root: the project's root.
        settle: seconds that its newest file has to be old.
        every: seconds between looks.
        clock: Unix time.
        sleep: for so many seconds.
    """
    known = None
    while True:
        found = [(path, each.st_ctime, each.st_size) for path, each in stats(Path(root, DATA))]
        newest = max((changed for _, changed, _ in found), default=0.0)
        if (now := hash(tuple(sorted(found)))) != known and newest + settle <= clock():
            known = now
            yield
        sleep(every)


def _newest(folder: Path) -> float:
    """When a file came last or changed, whatever date it brought along; 0 where there is none."""
    return max((found.st_ctime for _, found in stats(folder)), default=0.0)
