"""Maps in parts that fit the cache, worked on by as many threads as torch has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

FAILED = -1  # in the place of a part's index
CACHE = 2 << 20  # bytes of a map before pooling that are worked on at a time
_own = threading.local()
T = TypeVar("T")


class Part(NamedTuple):
    """Some examples of one task, and which part this is."""

    index: int
    task: int
    examples: slice


def check_fit(x: Tensor, kernels: Tensor) -> None:
    """Machine code would read beyond the ends of what does not fit.

    Raises:
        ValueError: kernels for other channels than x has, for tasks that cannot share its examples equally, or of
            another type of number.
    """
    if x.dtype != kernels.dtype:
        raise ValueError(f"kernels are {kernels.dtype} and x is {x.dtype}: take one type for both")
    if x.shape[1] != kernels.shape[2] or len(x) % len(kernels):
        raise ValueError(f"kernels (task, out, channel, k, k) {tuple(kernels.shape)} do not fit x {tuple(x.shape)}")


def parts_of(x: Tensor, kernels: Tensor) -> list[Part]:
    """Examples of one task that fit the cache; x has as many examples for each task as for the others.

    A task on its own comes in four parts or more, so that threads have something to share.
    """
    each = len(x) // len(kernels)
    fit = max(1, CACHE // (x.element_size() * kernels.shape[1] * x.shape[2] * x.shape[3]))
    count = max(-(-each // fit), min(each, 4 if len(kernels) == 1 else 1))
    return _shared_out(len(kernels), each, -(-each // count))


def tasks_of(kernels: Tensor) -> list[Part]:
    """A part for each task."""
    return _shared_out(len(kernels), 1, 1)


def _shared_out(tasks: int, each: int, size: int) -> list[Part]:
    slices = [
        (task, slice(start, min(start + size, (task + 1) * each)))
        for task in range(tasks)
        for start in range(task * each, (task + 1) * each, size)
    ]
    return [Part(index, *of) for index, of in enumerate(slices)]


def over(parts: Sequence[Part], work: Callable[[Part], T]) -> list[T]:
    """`work` for every part, in order, on as many threads as this one may use, this one among them.

    A part keeps to one thread: convolutions wait for each other less than when torch shares out each of them. A helper
    that has not begun when all parts are taken is not waited for. Gradients are off in helpers alone: the caller is a
    Function's forward or backward, where they are off.

    Raises:
        BaseException: what `work` raised first, when no part is left to be taken.
    """
    allowed = getattr(_own, "threads", 0) or torch.get_num_threads()
    threads = min(allowed, len(parts))
    if threads == 1:
        return [work(part) for part in parts]
    left, done = iter(parts), SimpleQueue[tuple[int, Any]]()

    def take() -> None:
        for part in left:  # the threads take turns as they get free
            try:
                result = work(part)
            except BaseException as error:
                done.put((FAILED, error))
            else:
                done.put((part.index, result))

    helpers = [_pool(allowed).submit(take) for _ in range(threads - 1)]
    with threads_for_parts():
        take()
    for helper in helpers:
        helper.cancel()
    return _in_order(parts, done)


def _in_order(parts: Sequence[Part], done: SimpleQueue[tuple[int, Any]]) -> list[Any]:
    results: list[Any] = [None] * len(parts)
    for _ in parts:
        index, result = done.get()
        if index == FAILED:
            raise result
        results[index] = result
    return results


@contextmanager
def threads_for_parts() -> Iterator[None]:
    """Within it, torch's own passes keep to this thread, and parts have all those that torch had.

    The threads of torch's passes wait for the next one at full speed, and take the processors from ours.
    """
    before = getattr(_own, "threads", 0)
    count = before or torch.get_num_threads()
    _own.threads = count
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _own.threads = before
        if not before:
            torch.set_num_threads(count)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    def alone() -> None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)

    return ThreadPoolExecutor(threads - 1, "metaloom", initializer=alone)


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its threads


def channels_last(x: Float[Tensor, "example channel height width"]) -> Float[Tensor, "example channel height width"]:
    """With a single channel torch sees no difference, and convolutions then take the slow layout."""
    if x.shape[1] == 1:
        x = x.contiguous()
        return x.as_strided(x.shape, (x.stride(0), 1, x.stride(2), 1))
    return x.contiguous(memory_format=torch.channels_last)


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised memory, channels last, of another tensor's dtype where none is given."""
    return torch.empty(shape, dtype=dtype or like.dtype, memory_format=torch.channels_last)


def pixels(x: Tensor) -> np.ndarray:
    """The array (example, row, column, channel) that a kernel works on."""
    return x.detach().permute(0, 2, 3, 1).numpy()


def flat(x: Tensor) -> np.ndarray:
    """The array (example, pixel, channel) that a kernel works on."""
    return x.detach().permute(0, 2, 3, 1).flatten(1, 2).numpy()
