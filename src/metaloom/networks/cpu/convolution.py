"""Kernels of 3×3 convolutions in the form of the faster of two ways, and their gradients back from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.cpu.parts import Part, over, tasks_of
from metaloom.networks.cpu.winograd import kernel_of_tiles, kernel_tiles

CHANNELS = 16  # in and out, from which on fewer multiplications outweigh their transforms


class Kernels(NamedTuple):
    """Every task's kernel as its convolution takes it.

    Args:
        values: (36, channel, out) of tiles, or (channel, 9, out).
        tiled: which of them.
    """

    values: list[np.ndarray]
    tiled: bool


def prepared(kernels: Float[Tensor, "task out channel 3 3"], turned: bool = False) -> Kernels:
    """Each task's kernels in the form that the convolution takes.

    Args:
        kernels: of all tasks.
        turned: for the way from the gradient of a result to that of the input, which is a convolution with the
            kernel turned by half, in and out exchanged.
    """
    kernels, tiled = kernels.detach(), is_tiled(kernels)

    def prepare(part: Part) -> Tensor:
        kernel = kernels[part.task]
        kernel = kernel.flip(2, 3).transpose(0, 1) if turned else kernel
        return kernel_tiles(kernel) if tiled else kernel.permute(1, 2, 3, 0).flatten(1, 2).contiguous()

    return Kernels([each.numpy() for each in over(tasks_of(kernels), prepare)], tiled)


def gradient_space(kernels: Float[Tensor, "task out channel 3 3"], parts: list[Part]) -> np.ndarray:
    """Zeros for the gradients of the parts, in the form of `Kernels.values`."""
    out, channels = kernels.shape[1:3]
    shape = (36, channels, out) if is_tiled(kernels) else (channels, 9, out)
    return torch.zeros(len(parts), *shape, dtype=kernels.dtype).numpy()


def gathered(
    gradients: np.ndarray, parts: list[Part], kernels: Float[Tensor, "task out channel 3 3"]
) -> Float[Tensor, "task out channel 3 3"]:
    """Each task's gradient from those of its parts, which began as `gradient_space`."""
    result = torch.empty(kernels.shape, dtype=kernels.dtype)
    each = len(parts) // len(kernels)

    def gather(part: Part) -> None:
        own = torch.from_numpy(gradients[part.index * each : (part.index + 1) * each]).sum(dim=0)
        result[part.index] = kernel_of_tiles(own) if is_tiled(kernels) else own.unflatten(1, (3, 3)).permute(3, 0, 1, 2)

    over(tasks_of(result), gather)
    return result


def is_tiled(kernels: Tensor) -> bool:
    """Whether there are channels enough for Winograd's tiles."""
    return min(kernels.shape[1:3]) >= CHANNELS
