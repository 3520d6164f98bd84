"""Layers in the form that a GPU likes: few large kernels, for first and second derivatives alike.

Tasks lie side by side as groups of channels, (example, task · channel, height, width), so that one kernel serves all of
them. torch's own second derivatives are many times more work: that of a convolution with groups is a convolution for each
group, with a kernel as large as the map, and that of a group norm some forty passes over it. Here they are written out:
what a convolution's gradients are is bilinear, so theirs are three convolutions of the ordinary shape and two sums.

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

FEW = 4  # input channels, up to which products of matrices are several times faster than cuDNN's groups (H100)

_backward = torch.ops.aten.convolution_backward


def joined(x: Float[Tensor, "task example channel *pixels"]) -> Float[Tensor, "example task_channel *pixels"]:
    """Tasks side by side; copies nothing if they lie so already."""
    return x.transpose(0, 1).flatten(1, 2)


def parted(x: Float[Tensor, "example task_channel *pixels"], tasks: int) -> Float[Tensor, "task example channel *pixels"]:
    """A view of joined tasks as they were."""
    return x.unflatten(1, (tasks, -1)).transpose(0, 1)


class Convolution(Function):
    """Convolution of joined tasks with kernels (task, out, channel, k, k), k odd, that keeps the size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernels)
        return _convolved(x, kernels)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> Any:
        return _ConvolutionGradients.apply(d_y, *ctx.saved_tensors, ctx.needs_input_grad[0])


class _ConvolutionGradients(Function):
    @staticmethod
    def forward(ctx: Any, d_y: Tensor, x: Tensor, kernels: Tensor, needs_x: bool) -> Any:
        ctx.save_for_backward(d_y, x, kernels)
        ctx.set_materialize_grads(False)
        return _through(d_y, kernels) if needs_x else None, _kernel_gradients(d_y, x, kernels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_x: Tensor | None, to_kernels: Tensor | None) -> Any:
        d_y, x, kernels = ctx.saved_tensors
        to_d_y = d_x = d_kernels = None
        if to_kernels is not None:
            to_d_y = _convolved(x, to_kernels)
            d_x = _through(d_y, to_kernels) if ctx.needs_input_grad[1] else None
        if to_x is not None:
            through_x = _convolved(to_x, kernels)
            to_d_y = through_x if to_d_y is None else to_d_y + through_x
            d_kernels = _kernel_gradients(d_y, to_x, kernels)
        return to_d_y, d_x, d_kernels, None


def _convolved(x: Tensor, kernels: Tensor) -> Tensor:
    tasks, out, channels, side = kernels.shape[:4]
    # in IEEE's float32 cuDNN's groups are ten times slower than products, in TF32 and bfloat16 twice as fast
    ieee = x.dtype != torch.bfloat16 and not torch.backends.cudnn.allow_tf32
    if tasks == 1 or (channels > FEW and not ieee):
        return F.conv2d(x, kernels.flatten(0, 1), padding=side // 2, groups=tasks)
    return (kernels.flatten(2) @ _columns(x, tasks, side)).view(len(x), tasks * out, *x.shape[2:])


def _through(d_y: Tensor, kernels: Tensor) -> Tensor:
    """From the gradient of the result to that of x: a convolution with the kernels turned by half."""
    return _convolved(d_y, kernels.flip(3, 4).transpose(1, 2))


def _kernel_gradients(d_y: Tensor, x: Tensor, kernels: Tensor) -> Tensor:
    tasks, out, channels, side = kernels.shape[:4]
    if tasks > 1 and channels <= FEW:
        of_examples = d_y.unflatten(1, (tasks, out)).flatten(3) @ _columns(x, tasks, side).mT
        return of_examples.sum(dim=0).view(kernels.shape)
    geometry = [1, 1], [side // 2] * 2, [1, 1], False, [0, 0], tasks
    gradients = _backward(d_y, x, kernels.flatten(0, 1), None, *geometry, [False, True, False])
    return gradients[1].reshape(kernels.shape)


def _columns(x: Tensor, tasks: int, side: int) -> Float[Tensor, "example task taps pixel"]:
    """What a kernel sees at each pixel, so that a convolution is a product of matrices."""
    padded = F.pad(x, [side // 2] * 4).unflatten(1, (tasks, -1))
    windows = padded.unfold(3, side, 1).unfold(4, side, 1)
    return windows.permute(0, 1, 2, 5, 6, 3, 4).flatten(5).flatten(2, 4)


class MaxPool(Function):
    """2×2 maxima of (example, channel, height, width); an odd last row or column is left out.

    torch's own gradient asks for every pixel which maxima may have come from it, which takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        maps, place = F.max_pool2d(x, 2, return_indices=True)
        ctx.save_for_backward(place)
        ctx.size = tuple(x.shape[2:])
        return maps

    @staticmethod
    def backward(ctx: Any, d_maps: Tensor) -> Any:
        return _Unpool.apply(d_maps, *ctx.saved_tensors, ctx.size)


class _Unpool(Function):
    @staticmethod
    def forward(ctx: Any, d_maps: Tensor, place: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(place)
        (height, width), (rows, columns) = size, place.shape[2:]
        numbers = torch.arange(height * width, device=place.device).view(size)
        windows = numbers[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
        chosen = place[..., :, None, :, None] == windows
        d_x = torch.where(chosen, d_maps[..., :, None, :, None], 0).flatten(4).flatten(2, 3)
        beyond = width - 2 * columns, height - 2 * rows
        return F.pad(d_x, (0, beyond[0], 0, beyond[1])) if any(beyond) else d_x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_x: Tensor) -> Any:
        (place,) = ctx.saved_tensors
        return to_x.flatten(2).gather(2, place.flatten(2)).view(place.shape), None, None


class GroupNorm(Function):
    """Group norm of (example, channel, height, width), contiguous, with a scale and a shift for each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, groups: int, epsilon: float) -> Tensor:
        size = (*x.shape[:2], math.prod(x.shape[2:]))
        y, mean, inverse = torch.native_group_norm(x, scale, shift, *size, groups, epsilon)
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


def minus(a: Tensor, b: Tensor, c: Tensor, times: int = 1) -> Tensor:
    """a - times · b·c, in one kernel."""
    return torch.addcmul(a, b, c, value=-times)
