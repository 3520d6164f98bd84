"""A convolutional block's group norm, 2×2 max-pooling and ReLU as one kernel each way, for a GPU that has Triton.

torch's own operators read and write the maps about ten times for values and gradients, and forty times for second
derivatives; here each of the three reads and writes them once. The convolution of a picture, which has few channels, is
in the kernels too: its maps are the largest, and never reach the memory. Sums over a group have a fixed order.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from metaloom.system.terminal import say

SIDE = 3  # of a kernel that pictures are convolved with
TILE = 4096  # channels × windows of a group, at most: a program holds them all
A_WARP_S = 256  # of them
LAST = False  # whether maps made from pictures lie channels last
TOLERANCE = 1e-3  # of the self-test


class Sizes(NamedTuple):
    """What kernels are made for.

    Args:
        height: of the maps.
        width: of the maps.
        channels: of a group.
        groups: of an example, of all tasks together.
        groups_of_task: of them those of one task.
        inputs: channels of a picture that is convolved on the way; 0 where maps are given.
        map_channel: from a channel of the maps to the next.
        map_pixel: from a pixel of the maps to the next.
        pooled_channel: likewise of the pooled maps.
        pooled_pixel: likewise.
        channel_tile: `channels`, up to a power of two.
        window_tile: windows of a map, up to a power of two.
        double: whether to compute in float64.
    """

    height: int
    width: int
    channels: int
    groups: int
    groups_of_task: int
    inputs: int
    map_channel: int
    map_pixel: int
    pooled_channel: int
    pooled_pixel: int
    channel_tile: int
    window_tile: int
    double: bool


def fits(x: Float[Tensor, "*task example channel height width"], channels: int) -> bool:
    """Whether kernels take blocks of pictures of this size, with so many channels in a group."""
    small = min(x.shape[-2:]) > 1 and _tile(channels) * _windows(*x.shape[-2:]) <= TILE
    return x.is_cuda and small and _works(x.device)


@cache
def _works(device: torch.device) -> bool:
    """Whether Triton is here and its kernels are right; torch for CUDA brings it along on Linux."""
    if not find_spec("triton"):
        return False
    x = torch.linspace(-1, 1, 128, device=device).view(2, 4, 4, 4).sin()
    scale, shift = torch.ones(4, device=device), torch.zeros(4, device=device)
    try:
        y = normed_pool(x, None, scale, shift, 1, 0.0)
    except Exception as error:  # a fence: whatever a compiler raises here must not cost a run
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        say(f"training on the GPU goes on without fused kernels, slower: Triton does not work here ({why})")
        return False
    return torch.allclose(y, F.relu(F.max_pool2d(F.group_norm(x, 1, eps=0.0), 2)), atol=TOLERANCE)


def normed_pool(
    x: Float[Tensor, "example channels height width"],
    kernels: Float[Tensor, "task out input k k"] | None,
    scale: Float[Tensor, " out_channels"],
    shift: Float[Tensor, " out_channels"],
    groups: int,
    epsilon: float,
) -> Float[Tensor, "example out_channels rows columns"]:
    """Group norm with a scale and a shift for each channel, 2×2 max-pooling and ReLU; differentiable twice.

    Args:
        x: the maps, or with kernels pictures, (example, task · input, …), that have no gradient.
        kernels: of a convolution that comes first; None where x are the maps.
        scale: (task · out).
        shift: likewise.
        groups: of an example, of all tasks together.
        epsilon: under the root of the variance.
    """
    if kernels is not None or not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous()
    kernels = None if kernels is None else kernels.contiguous()
    return _NormedPool.apply(x, kernels, scale.contiguous(), shift.contiguous(), groups, epsilon)


class _NormedPool(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernels: Tensor | None, scale: Tensor, shift: Tensor, groups: int, eps: float
    ) -> Tensor:
        ctx.sizes = sizes = _sizes(x, kernels, len(scale), groups)
        shape = (len(x), len(scale), sizes.height // 2, sizes.width // 2)
        layout = torch.channels_last if sizes.pooled_channel == 1 else torch.contiguous_format
        out = torch.empty(shape, dtype=scale.dtype, device=x.device, memory_format=layout)
        place = torch.empty_like(out, dtype=torch.int8)
        moments = scale.new_empty(len(x), groups, 2)
        launch("forward", x, kernels, scale, shift, out, place, moments, eps, sizes=sizes)
        ctx.save_for_backward(x, kernels, scale, place, moments)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Any:
        return *_Gradients.apply(d_out, *ctx.saved_tensors, ctx.sizes), None, None


class _Gradients(Function):
    @staticmethod
    def forward(
        ctx: Any, d_out: Tensor, x: Tensor, kernels: Any, scale: Tensor, place: Tensor, moments: Tensor, sizes: Sizes
    ) -> Any:
        ctx.sizes, d_out = sizes, _laid_as(place, d_out)
        d_maps = torch.empty_like(x) if kernels is None else None
        sums = scale.new_empty(len(x), (2 + 9 * sizes.inputs) * len(scale))
        launch("backward", d_out, x, kernels, scale, place, moments, d_maps, sums, sizes=sizes)
        ctx.save_for_backward(d_out, x, kernels, scale, place, moments)
        d_scale, d_shift, d_kernels = sums.sum(dim=0).split([len(scale), len(scale), _count(kernels)])
        return d_maps, None if kernels is None else d_kernels.view_as(kernels), d_scale, d_shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_maps: Any, to_kernels: Any, to_scale: Tensor, to_shift: Tensor) -> Any:
        d_out, x, kernels, scale, *_ = saved = ctx.saved_tensors
        d_maps = None
        if kernels is None:
            d_maps, to_maps = torch.empty_like(x), _laid_as(x, to_maps)
        else:
            to_maps, to_kernels = x, to_kernels.contiguous()
        to_d_out, sums = torch.empty_like(d_out), scale.new_empty(len(x), (1 + 9 * ctx.sizes.inputs) * len(scale))
        arrived = to_maps, to_kernels, to_scale.contiguous(), to_shift.contiguous()
        launch("twice", *arrived, *saved, to_d_out, d_maps, sums, sizes=ctx.sizes)
        d_scale, d_kernels = sums.sum(dim=0).split([len(scale), _count(kernels)])
        return to_d_out, d_maps, None if kernels is None else d_kernels.view_as(kernels), d_scale, None, None, None


def launch(name: str, x: Tensor, *given: Any, sizes: Sizes) -> None:
    """Run one of the kernels; the first of what it is given has all examples."""
    from metaloom.networks import triton_kernels  # imports Triton

    warps = max(1, sizes.channel_tile * sizes.window_tile // A_WARP_S)
    with torch.cuda.device_of(x):
        getattr(triton_kernels, name)[(len(x) * sizes.groups,)](x, *given, S=sizes, num_warps=warps)


def _sizes(x: Tensor, kernels: Tensor | None, channels: int, groups: int) -> Sizes:
    height, width = x.shape[2:]
    last = not x.is_contiguous() if kernels is None else LAST
    inputs, tasks = (0, 1) if kernels is None else (kernels.shape[2], len(kernels))
    strides = (1, channels, 1, channels) if last else (height * width, 1, (height // 2) * (width // 2), 1)
    tiles = _tile(channels // groups), _windows(height, width)
    double = x.dtype == torch.float64
    return Sizes(height, width, channels // groups, groups, groups // tasks, inputs, *strides, *tiles, double)


def _count(kernels: Tensor | None) -> int:
    return 0 if kernels is None else kernels.numel()


def _laid_as(pattern: Tensor, x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.contiguous_format if pattern.is_contiguous() else torch.channels_last)


def _tile(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _windows(height: int, width: int) -> int:
    return _tile(-(-height // 2) * -(-width // 2))
