"""Convolutions of one part of the examples that keep the size, and their gradients, by the fastest of three ways."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloom.networks.cpu import kernels, winograd
from metaloom.networks.cpu.parts import channels_last, empty, padded, pixels

CHANNELS = 16  # in and out, from which on fewer multiplications outweigh their transforms
THIN = 4  # channels in, up to which a loop of our own is faster than the library's
_backward = torch.ops.aten.convolution_backward


def convolve(x: Tensor, kernel: Tensor, exact: bool = False) -> Tensor:
    """Channels-last, as x; `exact` for inference, where nothing is gained from rounding more."""
    if _by_tiles(kernel) and not exact:
        return winograd.convolve(x, winograd.kernel_tiles(kernel))
    if _thin(kernel):
        y = empty(x, (len(x), len(kernel), *x.shape[2:]))
        thin = kernel.detach().permute(1, 2, 3, 0).flatten(1, 2).contiguous()
        kernels.convolve_thin(padded(x), thin.numpy(), pixels(y))
        return y
    return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)


def input_gradient(d_y: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
    if _by_tiles(kernel):
        return winograd.convolve(d_y, winograd.turned_kernel_tiles(kernel))
    return channels_last(_backward(d_y, x, kernel, None, *_geometry(kernel), [True, False, False])[0])


def kernel_gradient(d_y: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
    if _by_tiles(kernel):
        return winograd.kernel_gradient(d_y, x)
    if _thin(kernel):
        d_kernel = torch.empty(kernel.shape[1], 9, len(kernel), dtype=x.dtype)
        kernels.thin_kernel_gradient(padded(x), pixels(d_y), d_kernel.numpy())
        return d_kernel.unflatten(1, (3, 3)).permute(3, 0, 1, 2)
    return _backward(d_y, x, kernel, None, *_geometry(kernel), [False, True, False])[1]


def _by_tiles(kernel: Tensor) -> bool:
    return kernel.shape[-1] == 3 and min(kernel.shape[:2]) >= CHANNELS


def _thin(kernel: Tensor) -> bool:
    return kernel.shape[-1] == 3 and kernel.shape[1] <= THIN


def _geometry(kernel: Tensor) -> tuple[list[int], list[int], list[int], bool, list[int], int]:
    return [1, 1], [kernel.shape[-1] // 2] * 2, [1, 1], False, [0, 0], 1
