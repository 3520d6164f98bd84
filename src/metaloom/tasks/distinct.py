"""Draws without replacement in a time that does not depend on what they are drawn from."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

SHARE = 16  # a pool so many times larger than a draw is large: of its i.i.d. draws hardly any repeat


def distinct(
    draws: int, sizes: Int[Tensor, "*row"], largest: int, small: int, generator: torch.Generator | None
) -> Int[Tensor, "*row {draws}"]:
    """Ordered draws from 0 … size - 1 without replacement, uniform, for every row.

    A small pool is put in random order. Of a large one twice as many draws as needed and 32 more are taken
    independently; the first distinct ones of them are a draw without replacement. That they are too few has a
    probability below 1e-40.

    Args:
        draws: how many per row; no more than its size.
        sizes: of the pools; they live where the result shall.
        largest: no smaller than any of them.
        small: pools up to this size, or 16 times `draws`, are put in order; this bounds the time.
        generator: on the same device.
    """
    small = max(small, SHARE * draws)
    ordered = _of_small(draws, sizes, min(largest, small), generator)
    if largest <= small:
        return ordered
    return torch.where((sizes <= small)[..., None], ordered, _of_large(draws, sizes, generator))


def _of_small(draws: int, sizes: Tensor, columns: int, generator: torch.Generator | None) -> Tensor:
    order = torch.rand(*sizes.shape, columns, generator=generator, device=sizes.device)
    order.masked_fill_(torch.arange(columns, device=sizes.device) >= sizes[..., None], -1.0)
    return order.topk(draws).indices


def _of_large(draws: int, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
    shape = (*sizes.shape, 2 * draws + 32)
    drawn = torch.randint(2**62, shape, generator=generator, device=sizes.device) % sizes[..., None]
    values, order = drawn.sort(dim=-1, stable=True)
    repeats = torch.zeros_like(drawn)  # of an earlier draw
    repeats.scatter_(-1, order[..., 1:], (values[..., 1:] == values[..., :-1]).long())
    return drawn.gather(-1, repeats.sort(dim=-1, stable=True).indices[..., :draws])
