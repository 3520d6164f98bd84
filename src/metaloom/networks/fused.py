"""A convolutional block's group norm, 2×2 max-pooling and ReLU as one kernel each way, for a GPU that has Triton.

torch's own operators read and write the maps about ten times for values and gradients, and forty times for second
derivatives; here each of the three reads and writes them once. The convolution of a picture with one channel is in the
kernels too: its maps are the largest, and never reach the memory. What follows lies channels last, as tensor cores like
it. Sums over a group have a fixed order.
"""

from __future__ import annotations

import math
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
TOLERANCE = 1e-3  # of the self-test


class Sizes(NamedTuple):
    """What kernels are made for.

    Args:
        height: of the maps.
        width: of the maps.
        channels: of a group.
        picture: whether a picture is given, which is convolved on the way, and not maps.
        last: whether channels come last in memory.
        channel_tile: `channels`, up to a power of two.
        window_tile: windows of a map, up to a power of two.
        double: whether to compute in float64.
    """

    height: int
    width: int
    channels: int
    picture: bool
    last: bool
    channel_tile: int
    window_tile: int
    double: bool


def fits(x: Float[Tensor, "*task example channel height width"], channels: int) -> bool:
    """Whether kernels take blocks of pictures of this size, with so many channels in a group."""
    small = min(x.shape[-2:]) > 1 and _tile(channels) * _windows(*x.shape[-2:]) <= TILE
    return x.is_cuda and small and _works(x.device)


@cache
def _works(device: torch.device) -> bool:
    """Whether Triton is here, as torch for CUDA brings it along on Linux, and the kernels are right on this device."""
    if not find_spec("triton"):
        return False
    try:
        with torch.inference_mode(False), torch.enable_grad():
            _compare(device)
    except Exception as error:  # Triton's, a C compiler's, the driver's, another Triton's AttributeError: all are said
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        say(f"fused kernels do not work on this GPU ({why}): torch's own take their place, half as fast")
        return False
    return True


def _compare(device: torch.device) -> None:
    """Two blocks, their gradients and second derivatives, with torch's operators in float64 on the CPU.

    Raises:
        ArithmeticError: they differ.
    """
    shapes = (2, 2, 7, 6), (2, 4, 1, 3, 3), (8,), (8,), (8,), (8,)
    given = [torch.linspace(1, 9, math.prod(shape), dtype=torch.float64).sin().view(shape) for shape in shapes]
    found = []
    for block, here, real in ((normed_pool, device, torch.float32), (by_torch, torch.device("cpu"), torch.float64)):
        x, *leaves = (each.to(here, real) for each in given)
        kernels, one, two, three, four = leaves = [each.requires_grad_() for each in leaves]
        y = block(block(x, kernels, one, two, 4, 1e-5), None, three, four, 2, 1e-5)
        first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        again = torch.autograd.grad(torch.stack([each.square().sum() for each in first]).sum(), leaves)
        found.append([each.detach().double().cpu() for each in (y, *first, *again)])
    for ours, expected in zip(*found, strict=True):
        if not torch.allclose(ours, expected, rtol=TOLERANCE, atol=TOLERANCE * float(expected.abs().max())):
            raise ArithmeticError("their results are not torch's")


def by_torch(
    x: Tensor, kernels: Tensor | None, scale: Tensor, shift: Tensor, groups: int, epsilon: float
) -> Float[Tensor, "example out_channels rows columns"]:
    """`normed_pool` by torch's own operators."""
    maps = x if kernels is None else F.conv2d(x, kernels.flatten(0, 1), padding=SIDE // 2, groups=len(kernels))
    return F.relu(F.max_pool2d(F.group_norm(maps, groups, scale, shift, epsilon), 2))


def normed_pool(
    x: Float[Tensor, "example channels_or_tasks height width"],
    kernels: Float[Tensor, "task out 1 3 3"] | None,
    scale: Float[Tensor, " out_channels"],
    shift: Float[Tensor, " out_channels"],
    groups: int,
    epsilon: float,
) -> Float[Tensor, "example out_channels rows columns"]:
    """Group norm with a scale and a shift for each channel, 2×2 max-pooling and ReLU; differentiable twice.

    Args:
        x: the maps, or with kernels pictures, (example, task, …), that have no gradient.
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
        ctx.sizes = sizes = _sizes(x, kernels, len(scale) // groups)
        ctx.groups = groups, groups // (1 if kernels is None else len(kernels))  # of all tasks, and of one
        shape = (len(x), len(scale), sizes.height // 2, sizes.width // 2)
        layout = torch.channels_last if sizes.last else torch.contiguous_format
        out = torch.empty(shape, dtype=scale.dtype, device=x.device, memory_format=layout)
        place = torch.empty_like(out, dtype=torch.int8)
        moments = scale.new_empty(len(x), groups, 2)
        launch("forward", x, kernels, scale, shift, out, place, moments, eps, *ctx.groups, sizes=sizes)
        ctx.save_for_backward(x, kernels, scale, place, moments)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Any:
        return *_Gradients.apply(d_out, *ctx.saved_tensors, ctx.groups, ctx.sizes), None, None


class _Gradients(Function):
    @staticmethod
    def forward(
        ctx: Any, d_out: Tensor, x: Tensor, kernels: Any, scale: Tensor, place: Tensor, moments: Tensor, *how: Any
    ) -> Any:
        ctx.groups, ctx.sizes = how
        d_out = _laid_as(place, d_out)
        d_maps = torch.empty_like(x) if kernels is None else None
        sums = scale.new_empty(len(x), (2 + 9 * ctx.sizes.picture) * len(scale))
        launch("backward", d_out, x, kernels, scale, place, moments, d_maps, sums, *ctx.groups, sizes=ctx.sizes)
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
        to_d_out, sums = torch.empty_like(d_out), scale.new_empty(len(x), (1 + 9 * ctx.sizes.picture) * len(scale))
        arrived = to_maps, to_kernels, to_scale.contiguous(), to_shift.contiguous()
        launch("twice", *arrived, *saved, to_d_out, d_maps, sums, *ctx.groups, sizes=ctx.sizes)
        d_scale, d_kernels = sums.sum(dim=0).split([len(scale), _count(kernels)])
        return to_d_out, d_maps, None if kernels is None else d_kernels.view_as(kernels), d_scale, *[None] * 4


def launch(name: str, x: Tensor, *given: Any, sizes: Sizes) -> None:
    """Run one of the kernels; what it is given begins with a tensor of all examples and ends with the groups."""
    from metaloom.networks import triton_kernels  # imports Triton

    warps = min(max(1, sizes.channel_tile * sizes.window_tile // A_WARP_S), 16)
    with torch.cuda.device_of(x):
        getattr(triton_kernels, name)[(len(x) * given[-2],)](x, *given, S=sizes, num_warps=warps)


def _sizes(x: Tensor, kernels: Tensor | None, channels: int) -> Sizes:
    height, width = x.shape[2:]
    picture = kernels is not None
    last = picture or not x.is_contiguous()
    tiles = _tile(channels), _windows(height, width)
    return Sizes(height, width, channels, picture, last, *tiles, x.dtype == torch.float64)


def _count(kernels: Tensor | None) -> int:
    return 0 if kernels is None else kernels.numel()


def _laid_as(pattern: Tensor, x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.contiguous_format if pattern.is_contiguous() else torch.channels_last)


def _tile(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _windows(height: int, width: int) -> int:
    return _tile(-(-height // 2) * -(-width // 2))
