"""Kernels of 3×3 convolutions in the form of the faster of two ways, and their gradients back from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.cpu.parts import Part, over, tasks_of
from metaloom.networks.cpu.passes import LEADS_BACK, LOOPS, OWN, TILES
from metaloom.networks.cpu.winograd import kernel_of_tiles, kernel_tiles

CHANNELS = 16  # in and out, from which on fewer multiplications outweigh their transforms


class Kernels(NamedTuple):
    """Every task's kernel as its convolution takes it.

    Args:
        values: (36, channel, out) of tiles, (out, channel, 9), or (channel, 9, out).
        form: which of them, as `metaloom.networks.cpu.passes` names it.
    """

    values: Sequence[np.ndarray]
    form: int


def prepared(kernels: Float[Tensor, "task out channel 3 3"], parts: Sequence[Part], turned: bool = False) -> Kernels:
    """Each task's kernels in the form that the convolution takes.

    Args:
        kernels: of all tasks.
        parts: that will be convolved.
        turned: for the way from the gradient of a result to that of the input, which is a convolution with the
            kernel turned by half, in and out exchanged.
    """
    kernels, form = kernels.detach(), form_of(kernels, parts)
    if form == LOOPS:
        kernels = kernels.flip(3, 4).transpose(1, 2) if turned else kernels
        return Kernels(list(kernels.permute(0, 2, 3, 4, 1).flatten(2, 3).contiguous().numpy()), form)
    of_nine = kernels.flatten(3).contiguous().numpy()
    if form == OWN:
        return Kernels(list(of_nine), LEADS_BACK if turned else OWN)

    def prepare(part: Part) -> np.ndarray:
        return kernel_tiles(of_nine[part.task], turned)

    return Kernels(over(tasks_of(kernels), prepare), form)


def gradient_space(kernels: Float[Tensor, "task out channel 3 3"], parts: Sequence[Part]) -> np.ndarray:
    """Room for the gradients of the parts, in the form of `Kernels.values`; zeros, but for `OWN`, which is filled."""
    out, channels = kernels.shape[1:3]
    form = form_of(kernels, parts)
    if form == OWN:
        return torch.empty(len(parts), out, channels, 9, dtype=kernels.dtype).numpy()
    shape = (36, channels, out) if form == TILES else (channels, 9, out)
    return torch.zeros(len(parts), *shape, dtype=kernels.dtype).numpy()


def gathered(
    gradients: np.ndarray, parts: Sequence[Part], kernels: Float[Tensor, "task out channel 3 3"]
) -> Float[Tensor, "task out channel 3 3"]:
    """Each task's gradient from those of its parts, which began as `gradient_space`; it may be the same memory."""
    form, of_parts = form_of(kernels, parts), torch.from_numpy(gradients)
    if form == OWN:
        return of_parts.view(kernels.shape)
    of_parts = of_parts.unflatten(0, (len(kernels), -1))
    if form == LOOPS:
        return of_parts.sum(dim=1).permute(0, 3, 1, 2).reshape(kernels.shape)
    result = torch.empty(kernels.shape, dtype=kernels.dtype)

    def gather(part: Part) -> None:
        kernel_of_tiles(of_parts[part.task].sum(dim=0).numpy(), result[part.task].flatten(2).numpy())

    over(tasks_of(result), gather)
    return result


def form_of(kernels: Tensor, parts: Sequence[Part]) -> int:
    """Plain loops below `CHANNELS`; else tiles, which the pass makes itself where a task is one part."""
    if min(kernels.shape[1:3]) < CHANNELS:
        return LOOPS
    return OWN if len(parts) == len(kernels) else TILES
