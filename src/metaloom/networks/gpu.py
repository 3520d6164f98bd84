"""Layers in the form that a GPU likes: few large kernels, for first and second derivatives alike.

Tasks lie side by side as groups of channels, (example, task · channel, height, width), so that one kernel serves all of
them. torch's own second derivatives are many times more work: that of a convolution with groups is a convolution for
each group, with a kernel as large as the map, and that of a group norm some forty passes over it. Here they are written
out; `metaloom.networks.bilinear` has those of a convolution.

Nothing here depends on the device, so the CPU can prove it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from metaloom.networks.bilinear import Products

FEW = 4  # input channels, as a picture has

_backward = torch.ops.aten.convolution_backward
_minus_all, _times_all = torch._foreach_sub, torch._foreach_mul  # pyright: ignore[reportPrivateImportUsage]


def joined(x: Float[Tensor, "task example channel *pixels"]) -> Float[Tensor, "example task_channel *pixels"]:
    """Tasks side by side; copies nothing if they lie so already."""
    return x.transpose(0, 1).flatten(1, 2)


def parted(
    x: Float[Tensor, "example task_channel *pixels"], tasks: int
) -> Float[Tensor, "task example channel *pixels"]:
    """A view of joined tasks as they were."""
    return x.unflatten(1, (tasks, -1)).transpose(0, 1)


def _convolved(x: Tensor, kernels: Tensor) -> Tensor:
    tasks, out, _, side = kernels.shape[:4]
    if tasks == 1 or not _as_products(x, kernels):
        return F.conv2d(x, kernels.flatten(0, 1), padding=side // 2, groups=tasks)
    columns = _windows(x, tasks, side).flatten(5).flatten(2, 4)  # (example, task, tap, pixel)
    return (kernels.flatten(2) @ columns).view(len(x), tasks * out, *x.shape[2:])


def _gradients(d_y: Tensor, x: Tensor, kernels: Tensor, of_x: bool, of_kernels: bool) -> tuple[Any, Any]:
    """Gradients in x and in the kernels; None for one that is not wanted."""
    tasks, out, channels, side = kernels.shape[:4]
    if not _as_products(x, kernels) or (tasks == 1 and channels > FEW):
        geometry = [1, 1], [side // 2] * 2, [1, 1], False, [0, 0], tasks
        d_x, d_kernels, _ = _backward(d_y, x, kernels.flatten(0, 1), None, *geometry, [of_x, of_kernels, False])
        return d_x, None if d_kernels is None else d_kernels.reshape(kernels.shape)
    # back to x is a convolution with the kernels turned by half
    d_x = _convolved(d_y, kernels.flip(3, 4).transpose(1, 2)) if of_x else None
    if not of_kernels:
        return d_x, None
    rows, windows = d_y.unflatten(1, (tasks, out)), _windows(x, tasks, side)
    if channels <= FEW:  # small products, so one for each example
        products = rows.flatten(3) @ windows.flatten(5).flatten(2, 4).mT
        return d_x, products.sum(dim=0).view(kernels.shape)
    columns = windows.permute(1, 2, 3, 4, 0, 5, 6).flatten(4).flatten(1, 3)  # (task, tap, example · pixel)
    return d_x, (rows.permute(1, 2, 0, 3, 4).flatten(2) @ columns.mT).view(kernels.shape)


GROUPED = Products(_convolved, _gradients)  # of joined tasks


def _as_products(x: Tensor, kernels: Tensor) -> bool:
    """In IEEE's float32, cuDNN's convolutions with groups take many times longer than products of matrices; in TF32 and
    bfloat16 only those with few channels do. Measured on an H100."""
    ieee = x.dtype != torch.bfloat16 and not torch.backends.cudnn.allow_tf32
    return kernels.shape[2] <= FEW or ieee


def _windows(x: Tensor, tasks: int, side: int) -> Float[Tensor, "example task channel k k height width"]:
    """What a kernel sees at each pixel, as a view."""
    padded = F.pad(x, [side // 2] * 4).unflatten(1, (tasks, -1))
    return padded.unfold(3, side, 1).unfold(4, side, 1).permute(0, 1, 2, 5, 6, 3, 4)


class MaxPool(Function):
    """2×2 maxima of (example, channel, height, width); an odd last row or column is left out.

    torch's own gradient asks for every pixel which maxima may have come from it, which takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        maps, place = F.max_pool2d(x, 2, return_indices=True)
        if not ctx.needs_input_grad[0]:
            return maps
        ctx.size, (rows, columns) = tuple(x.shape[2:]), maps.shape[2:]
        numbers = torch.arange(math.prod(ctx.size), device=x.device).view(ctx.size)
        of_windows = numbers[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
        ctx.save_for_backward(place, place[..., :, None, :, None] == of_windows)
        return maps

    @staticmethod
    def backward(ctx: Any, d_maps: Tensor) -> Any:
        return _Unpool.apply(d_maps, *ctx.saved_tensors, ctx.size)


class _Unpool(Function):
    @staticmethod
    def forward(ctx: Any, d_maps: Tensor, place: Tensor, chosen: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(place)
        d_x = torch.where(chosen, d_maps[..., :, None, :, None], 0).flatten(4).flatten(2, 3)
        below, beside = (whole - part for whole, part in zip(size, d_x.shape[2:], strict=True))
        return F.pad(d_x, (0, beside, 0, below)) if below or beside else d_x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_x: Tensor) -> Any:
        (place,) = ctx.saved_tensors
        return to_x.flatten(2).gather(2, place.flatten(2)).view(place.shape), None, None, None


class GroupNorm(Function):
    """Group norm of (example, channel, height, width), contiguous, with a scale and a shift for each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, groups: int, epsilon: float) -> Tensor:
        examples, channels, pixels = *x.shape[:2], math.prod(x.shape[2:])
        of_all = x, scale, shift, examples, channels, pixels
        y, mean, inverse = torch.native_group_norm(*of_all, groups, epsilon)
        ctx.save_for_backward(x, scale, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> Any:
        return *_GroupNormGradients.apply(d_y, *ctx.saved_tensors), None, None


class _GroupNormGradients(Function):
    @staticmethod
    def forward(ctx: Any, d_y: Tensor, x: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor) -> Any:
        d_y, (examples, groups) = d_y.contiguous(), mean.shape
        every = examples * x.shape[1]  # as channels of one example: the sums then come for each example
        apart = (1, every, math.prod(x.shape[2:]))
        of_all = d_y.view(apart), x.view(apart), mean.view(1, -1), inverse.view(1, -1), scale.repeat(examples)
        d_x, products, sums = torch.ops.aten.native_group_norm_backward(
            *of_all, *apart, examples * groups, [True, True, True]
        )
        products, sums = products.view(examples, -1), sums.view(examples, -1)
        ctx.save_for_backward(d_y, x, scale, mean, inverse, products, sums)
        return d_x.view_as(x), products.sum(dim=0), sums.sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_x: Tensor, to_scale: Tensor, to_shift: Tensor) -> Any:
        """With z = x - mean, i = `inverse`, and means over a group in ⟨⟩, the gradients are
        d_x = i · (s·d - ⟨s·d⟩ - i²·z·⟨s·d·z⟩), d_scale = i · Σ d·z, d_shift = Σ d; here are those of
        Σ u·d_x + Σ p·d_scale + Σ q·d_shift: each is u, d, z and 1, times a factor for each example and channel."""
        d_y, x, scale, mean, i, sums_dz, sums_d = ctx.saved_tensors  # Σ i·d·z, Σ d
        groups = mean.shape[1], x.shape[1] // mean.shape[1]
        u, d, x = (each.reshape(len(each), *groups, -1) for each in (to_x, d_y, x))
        s, p, q = (each.view(groups) for each in (scale, to_scale, to_shift))
        sums_d, sums_dz, i = sums_d.view(-1, *groups), sums_dz.view(-1, *groups), i[..., None]
        z = x - mean[..., None, None]  # sums of u·x would lose digits where the mean is far from zero
        sums_u, sums_ud, sums_uz = u.sum(dim=3), (u * d).sum(dim=3), i * (u * z).sum(dim=3)
        of_channels = [sums_u, sums_uz, s * sums_d, s * sums_dz, s * sums_ud, p * sums_d, p * sums_dz]
        of_groups = torch.stack(of_channels).sum(dim=3, keepdim=True) / (x.shape[2] * x.shape[3])
        m_u, m_uz, m_d, m_dz, m_ud, m_pd, m_pdz = of_groups.unbind()
        si, ii = s * i, i * i
        both = i * minus(p, si, m_uz)  # the factor of z in the one is that of d in the other
        to_d = minus(q, si, m_u)[..., None].addcmul(u, si[..., None]).addcmul_(z, both[..., None])
        together = minus(minus(m_ud, m_u, m_d), m_uz, m_dz, 3)
        rest = minus(ii * torch.addcmul(m_dz * m_u, m_uz, m_d), i, m_pd)
        d_x = rest[..., None].addcmul(d, both[..., None])
        d_x.addcmul_(u, (ii * m_dz)[..., None], value=-1)
        d_x.addcmul_(z, (ii * torch.addcmul(m_pdz, i, together))[..., None], value=-1)
        d_scale = (i * minus(minus(sums_ud, m_u, sums_d), m_uz, sums_dz)).sum(dim=0)
        return to_d.view_as(d_y), d_x.view_as(d_y), d_scale.flatten(), None, None


class Descended(Function):
    """`Descended.apply(rate, *weights, *gradients)`: each weight less `rate` times its gradient, all in two kernels."""

    @staticmethod
    def forward(ctx: Any, rate: float, *both: Tensor) -> tuple[Tensor, ...]:
        ctx.rate, half = rate, len(both) // 2
        return _minus_all(both[:half], _times_all(both[half:], rate))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *arrived: Tensor) -> Any:
        return None, *arrived, *_times_all(arrived, -ctx.rate)


def minus(a: Tensor, b: Tensor, c: Tensor, times: int = 1) -> Tensor:
    """a - times · b·c, in one kernel."""
    return torch.addcmul(a, b, c, value=-times)
