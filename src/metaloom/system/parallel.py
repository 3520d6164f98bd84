"""Work for all cores, with a bounded number of pieces under way."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import get_context, parent_process
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from metaloom.errors import MetaloomError

T = TypeVar("T")
R = TypeVar("R")

_MAX_WORKERS = 16
ALONE = 2.0  # seconds of work before other processes are started, which takes them about as long


def cores() -> int:
    """Cores that this process may use, not those of the whole machine where the system tells them apart."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def n_workers() -> int:
    """A process for each core, up to 16."""
    return min(_MAX_WORKERS, cores())


def parallel_map(function: Callable[[T], R], pieces: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """`map(function, pieces)` in order on all cores; `pieces` is drawn only a few ahead of the results.

    Processes are spawned, not forked: the caller may have threads (Prefect does). That takes longer than the work on
    a small data set, so that this process begins alone.

    Args:
        workers: so many processes from the first piece on.

    Raises:
        MetaloomError: a worker process was killed.
    """
    alone = 0.0 if workers else ALONE
    workers = workers or n_workers()
    pieces = iter(pieces)
    for piece in pieces:
        if alone <= 0 and workers > 1:
            pieces = chain([piece], pieces)
            break
        began = time.perf_counter()
        result = function(piece)
        alone -= time.perf_counter() - began
        yield result
    else:
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker)
    pending: deque[Future[R]] = deque()
    try:
        for piece in pieces:
            pending.append(pool.submit(function, piece))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise MetaloomError("a worker process was killed, perhaps for want of memory: try again") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    """One BLAS thread per process: more would only fight over the cores. It ends with the parent.

    And glibc gives freed memory back to the system (and faults it in again, for a fifth of the time of
    drawing the glyphs) until a large block has been freed once: so one is.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1)
    np.empty(16 * 2**20, np.uint8)


def _end_with_parent() -> None:
    """A worker waits for work from a parent that was killed for good: it holds both ends of the queue itself."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
