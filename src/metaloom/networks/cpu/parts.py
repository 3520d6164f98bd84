"""Maps in parts that fit the cache, worked on by as many threads as torch has."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.cpu import kernels as kernel

CACHE = 2 << 20  # bytes of a map before pooling that are worked on at a time
_spaces = threading.local()
T = TypeVar("T")
Part = tuple[int, slice]  # a task, and some of its examples


def parts_of(x: Tensor, kernels: Tensor) -> list[Part]:
    """Examples of one task that fit the cache; x has as many examples for each task as for the others.

    A task on its own comes in four parts or more, so that threads have something to share.
    """
    each = len(x) // len(kernels)
    fit = max(1, CACHE // (x.element_size() * kernels.shape[1] * x.shape[2] * x.shape[3]))
    count = max(-(-each // fit), min(each, 4 if len(kernels) == 1 else 1))
    size = -(-each // count)
    return [
        (task, slice(start, min(start + size, (task + 1) * each)))
        for task in range(len(kernels))
        for start in range(task * each, (task + 1) * each, size)
    ]


def over(parts: Sequence[Part], work: Callable[[int, slice], T]) -> list[T]:
    """`work(task, examples)` for every part, in order, on as many threads as this one may use.

    A part keeps to one thread: convolutions wait for each other less than when torch shares out each of them.
    """
    threads = min(torch.get_num_threads(), len(parts))
    if threads == 1:
        return [work(*part) for part in parts]
    return list(_pool(torch.get_num_threads()).map(torch.no_grad()(work), *zip(*parts, strict=True)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "metaloom", initializer=lambda: torch.set_num_threads(1))


def channels_last(x: Float[Tensor, "example channel height width"]) -> Float[Tensor, "example channel height width"]:
    """With a single channel torch sees no difference, and convolutions then take the slow layout."""
    if x.shape[1] == 1:
        x = x.contiguous()
        return x.as_strided(x.shape, (x.stride(0), 1, x.stride(2), 1))
    return x.contiguous(memory_format=torch.channels_last)


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(shape, dtype=dtype or like.dtype, memory_format=torch.channels_last)


def pixels(x: Tensor) -> np.ndarray:
    """The array (example, row, column, channel) that a kernel works on."""
    return x.detach().permute(0, 2, 3, 1).numpy()


def flat(x: Tensor) -> np.ndarray:
    """The array (example, pixel, channel) that a kernel works on."""
    return x.detach().permute(0, 2, 3, 1).flatten(1, 2).numpy()


def padded(x: Tensor, multiple: int = 1) -> np.ndarray:
    """x, channels-last, with a border of zeros and more of them after it, up to a multiple of so many pixels."""
    height, width = (-(-size // multiple) * multiple + 2 for size in x.shape[2:])
    with_border = space("padded", x, len(x), height, width, x.shape[1]).numpy()
    kernel.pad(pixels(x), with_border)
    return with_border


def space(name: str, like: Tensor, *shape: int) -> Tensor:
    """Memory of this thread's own for what is used up at once: it stays in the cache."""
    name, size = f"{name} {like.dtype}", math.prod(shape)
    kept = _spaces.__dict__.get(name)
    if kept is None or len(kept) < size:
        kept = _spaces.__dict__[name] = torch.empty(size, dtype=like.dtype)
    return kept[:size].view(shape)
