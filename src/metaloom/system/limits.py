"""What hangs is ended: a process that takes too long, or in which nothing moves any more."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from metaloom.errors import MetaloomError

IDLE = 0.002  # share of a core below which a process is taken to wait: an interpreter's own threads take less
LOOKS = 20  # at a process, in its shortest limit


class HungError(MetaloomError):
    """Something took too long; `state` is what Prefect calls the task."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


def processor_seconds(pid: int) -> float:
    """Processor time that a process and its descendants have used; 0 where it is gone."""
    total = 0.0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            total += sum(each.cpu_times()[:4])  # its own, and those of children that have ended
    except psutil.NoSuchProcess:
        pass
    return total


class Watch:
    """Over one process, which may take so long, and stand still for so long.

    Args:
        total: seconds; 0: no limit.
        stall: seconds in which it writes no line and uses no processor; 0: no limit.
        clock: in seconds.
        used: by the process with that PID, in seconds of a processor.
    """

    def __init__(
        self,
        total: float,
        stall: float,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[int], float] = processor_seconds,
    ) -> None:
        self._total, self._stall, self._clock, self._used = total, stall, clock, used
        self._began = self._moved = clock()
        self._seconds = 0.0
        self.hung: HungError | None = None

    @property
    def every(self) -> float:
        """Seconds between looks; 0: there is no limit."""
        return min((each for each in (self._total, self._stall) if each), default=0.0) / LOOKS

    def heard(self) -> None:
        """The process has written a line."""
        self._moved = self._clock()

    def overdue(self, pid: int) -> bool:
        """Whether it has to be ended; `hung` says why then."""
        now, seconds = self._clock(), self._used(pid)
        if abs(seconds - self._seconds) > IDLE * (now - self._moved):
            self._seconds, self._moved = seconds, now
        if self._total and now - self._began > self._total:
            self.hung = HungError(f"ended after {_minutes(self._total)} (limits.stage_minutes)", "TimedOut")
        elif self._stall and now - self._moved > self._stall:
            still = f"it had neither written a line nor used the processor for {_minutes(self._stall)}"
            self.hung = HungError(f"ended, as {still} (limits.stall_minutes)", "Stalled")
        return self.hung is not None


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min"
