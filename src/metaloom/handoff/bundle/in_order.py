"""Work of several threads, in order: what onnxruntime and the decoders of files do leaves Python free for others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from threadpoolctl import threadpool_limits

from metaloom.system.parallel import cores

MOST = 4  # threads: Python itself has no more time than those need of it

P = TypeVar("P", bound=Sized)
R = TypeVar("R")


def workers() -> int:
    """A thread for each core, up to `MOST`."""
    return min(MOST, cores())


def in_order(work: Callable[[P], R], pieces: Iterable[P], whole: int) -> Iterator[R]:
    """`map(work, pieces)`, several at once.

    Where pieces are short of `whole`, whoever asks waits for their answers: no further piece is drawn before.

    Args:
        work: that threads do; it reads the caller's context variables, and BLAS has one thread in it.
        pieces: of work; a few more are drawn than are under way.
        whole: the length of those that several threads work on.
    """
    threads = workers()
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with threadpool_limits(1, "blas"):
            for piece in pieces:
                pending.append(pool.submit(copy_context().run, work, piece))
                while len(pending) > (threads if len(piece) >= whole else 0):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
