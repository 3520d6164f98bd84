"""Whether there is anything to do: DVC knows, by the data, the settings and the code that made what stands here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from metaloom.pipeline.code import renew_code
from metaloom.pipeline.stages import due_stages
from metaloom.system.files import stats
from metaloom.system.provenance import DATA, data_version
from metaloom.system.terminal import say
from metaloom.versioning.data import held_version


def nothing_due(root: str | Path) -> str | None:
    """The version of data/, if everything is up to date with it, with params.yaml and the code; else None."""
    named = data_version(root)
    if named is None or held_version(root) != named:
        return None
    renew_code(root)
    return None if due_stages(root) else named


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


def _newest(folder: Path) -> float:
    """When a file came last or changed, whatever date it brought along; 0 where there is none."""
    return max((found.st_ctime for _, found in stats(folder)), default=0.0)
