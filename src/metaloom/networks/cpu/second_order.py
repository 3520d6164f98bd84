"""Pooling and activation whose gradients are differentiated again, on a CPU, and the products of its convolutions.

Each forward pass saves its input itself, not the copy in another layout that it may work on: through a copy no
second derivative would reach the input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from metaloom.networks.bilinear import Products
from metaloom.networks.cpu import kernels as kernel
from metaloom.networks.cpu.convolution import form_of, gathered, gradient_space, prepared
from metaloom.networks.cpu.parts import channels_last, check_fit, empty, flat, over, parts_of, pixels
from metaloom.networks.cpu.passes import convolve, kernel_gradient


class Activation(Function):
    """relu(x · gain + bias), the affine map one for each example and channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        out = empty(x, x.shape)
        kernel.activate(flat(channels_last(x)), *_arrays(gain, bias), flat(out))
        ctx.save_for_backward(x, gain, out)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Any:
        return _ActivationGradients.apply(d_out, *ctx.saved_tensors)


class _ActivationGradients(Function):
    @staticmethod
    def forward(ctx: Any, d_out: Tensor, x: Tensor, gain: Tensor, out: Tensor) -> Any:
        d_out, x = channels_last(d_out), channels_last(x)
        d_x = torch.empty_like(x)
        d_gain, d_bias = torch.empty_like(gain), torch.empty_like(gain)
        kernel.activate_gradient(flat(d_out), flat(out), flat(x), *_arrays(gain), flat(d_x), *_arrays(d_gain, d_bias))
        ctx.save_for_backward(d_out, x, gain, out)
        return d_x, d_gain, d_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_x: Tensor, to_gain: Tensor, to_bias: Tensor) -> Any:
        d_out, x, gain, out = ctx.saved_tensors
        to_d_out, d_x, d_gain = torch.empty_like(x), torch.empty_like(x), torch.empty_like(gain)
        kernel.activate_second(
            flat(channels_last(to_x)),
            *_arrays(to_gain, to_bias),
            *map(flat, (d_out, out, x)),
            *_arrays(gain),
            flat(to_d_out),
            flat(d_x),
            *_arrays(d_gain),
        )
        return to_d_out, d_x, d_gain, None


class PoolAndSum(Function):
    """2×2 max-pooling, and each channel's sum and sum of squares over an example's pixels before it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Any:
        given, y = y, channels_last(y)
        shape = (*y.shape[:2], y.shape[2] // 2, y.shape[3] // 2)
        maps, place = empty(y, shape), empty(y, shape, torch.uint8)
        total, squares = y.new_empty(2, *y.shape[:2])
        kernel.pool(pixels(y), pixels(maps), pixels(place))
        kernel.pixel_sums(flat(y), *_arrays(total, squares))
        ctx.save_for_backward(given, place)
        return maps, total, squares

    @staticmethod
    def backward(ctx: Any, d_maps: Tensor, d_total: Tensor, d_squares: Tensor) -> Any:
        return _PoolAndSumGradient.apply(d_maps, d_total, d_squares, *ctx.saved_tensors)


class _PoolAndSumGradient(Function):
    @staticmethod
    def forward(ctx: Any, d_maps: Tensor, d_total: Tensor, d_squares: Tensor, y: Tensor, place: Tensor) -> Tensor:
        y = channels_last(y)
        d_y = torch.empty_like(y)
        ctx.save_for_backward(d_squares, y, place)
        kernel.unpool(
            pixels(y), *_arrays(d_total, d_squares), pixels(channels_last(d_maps)), pixels(place), pixels(d_y)
        )
        return d_y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_d_y: Tensor) -> Any:
        d_squares, y, place = ctx.saved_tensors
        to_maps, d_y = empty(y, place.shape), torch.empty_like(y)
        to_total, to_squares = torch.empty_like(d_squares), torch.empty_like(d_squares)
        kernel.unpool_second(
            pixels(channels_last(to_d_y)),
            pixels(y),
            *_arrays(d_squares),
            pixels(place),
            pixels(to_maps),
            *_arrays(to_total, to_squares),
            pixels(d_y),
        )
        return to_maps, to_total, to_squares, d_y, None


def _arrays(*values: Tensor) -> list[Any]:
    return [each.detach().contiguous().numpy() for each in values]


def _convolved(x: Tensor, kernels: Tensor) -> Tensor:
    check_fit(x, kernels)
    x = channels_last(x)
    return _by_tiles(x, kernels) if kernels.shape[-1] == 3 else _one_by_one(x, kernels)


def _gradients(d_y: Tensor, x: Tensor, kernels: Tensor, of_x: bool, of_kernels: bool) -> tuple[Any, Any]:
    d_y, x = channels_last(d_y), channels_last(x)
    if kernels.shape[-1] != 3:
        return _gradients_one_by_one(d_y, x, kernels, of_x, of_kernels)
    d_x = _by_tiles(d_y, kernels, turned=True) if of_x else None
    return d_x, _kernel_gradients(d_y, x, kernels) if of_kernels else None


TILED = Products(_convolved, _gradients)  # of (example, …), as many examples for each task


def _by_tiles(x: Tensor, kernels: Tensor, turned: bool = False) -> Tensor:
    """Through the kernels, or back through them."""
    y = empty(x, (len(x), kernels.shape[2 if turned else 1], *x.shape[2:]))
    parts = parts_of(x, kernels)
    values, form = prepared(kernels, parts, turned)
    of_x, of_y = pixels(x), pixels(y)
    over(parts, lambda part: convolve(of_x[part.examples], values[part.task], form, of_y[part.examples]))
    return y


def _kernel_gradients(d_y: Tensor, x: Tensor, kernels: Tensor) -> Tensor:
    parts = parts_of(x, kernels)
    d_kernels = gradient_space(kernels, parts)
    of_y, of_x, form = pixels(d_y), pixels(x), form_of(kernels, parts)
    over(
        parts,
        lambda part: kernel_gradient(of_y[part.examples], of_x[part.examples], form, d_kernels[part.index]),
    )
    return gathered(d_kernels, parts, kernels)


def _one_by_one(x: Tensor, kernels: Tensor) -> Tensor:
    """By torch's own operators, task after task."""
    each = zip(_by_task(x, kernels), kernels, strict=True)
    return _together([F.conv2d(own, kernel, padding=kernels.shape[-1] // 2) for own, kernel in each])


def _gradients_one_by_one(d_y: Tensor, x: Tensor, kernels: Tensor, of_x: bool, of_kernels: bool) -> tuple[Any, Any]:
    geometry = [1, 1], [kernels.shape[-1] // 2] * 2, [1, 1], False, [0, 0], 1
    d_xs, d_kernels = [], []
    for each in zip(_by_task(d_y, kernels), _by_task(x, kernels), kernels, strict=True):
        d_x, d_kernel, _ = torch.ops.aten.convolution_backward(*each, None, *geometry, [of_x, of_kernels, False])
        d_xs.append(d_x)
        d_kernels.append(d_kernel)
    return _together(d_xs) if of_x else None, torch.stack(d_kernels) if of_kernels else None


def _by_task(x: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
    return x.split(len(x) // len(kernels))


def _together(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
