"""A night with nothing to do, as a command of its own."""

from __future__ import annotations

import resource

from projects import metaloom

MOST = 3.0  # seconds of the processor; it takes about one and a half


def spent() -> float:
    """By processes that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def test_it_costs_three_seconds_at_most(small):
    small.night()
    before = spent()
    done = metaloom(small.root, "retrain")
    taken = spent() - before
    assert "nothing is new: data/ is version" in done.stdout and taken <= MOST
