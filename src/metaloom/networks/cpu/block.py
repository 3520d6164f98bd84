"""A whole block in one pass over parts of the images that fit the cache; differentiable once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from metaloom.networks.cpu import kernels as kernel
from metaloom.networks.cpu.convolution import convolve, input_gradient, kernel_gradient
from metaloom.networks.cpu.parts import channels_last, empty, flat, over, parts_of, pixels

RECOMPUTE = 4  # input channels up to which the map before pooling is convolved again in the backward pass, not kept


class Block(Function):
    """See `metaloom.networks.cpu.convolve_and_pool`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Any, bias: Any, kernels: Tensor, sums: bool) -> Any:  # type: ignore[override]
        x = channels_last(x)
        shape = (len(x), kernels.shape[1], x.shape[2] // 2, x.shape[3] // 2)
        maps, place = empty(x, shape), empty(x, shape, torch.uint8)
        total, squares = x.new_zeros(2, *shape[:2])
        recorded = any(ctx.needs_input_grad)
        keep = x.shape[1] > RECOMPUTE and recorded

        def work(task: int, part: slice) -> Tensor | None:
            y = convolve(_activated(x, gain, bias, part), kernels[task], exact=not recorded)
            if sums:
                kernel.pixel_sums(flat(y), total[part].numpy(), squares[part].numpy())
            kernel.pool(pixels(y), pixels(maps[part]), pixels(place[part]))
            return y if keep else None

        ctx.parts = parts_of(x, kernels)
        ctx.before = over(ctx.parts, work)
        ctx.save_for_backward(x, gain, bias, kernels, place)
        return maps, total, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_maps: Tensor, d_total: Tensor, d_squares: Tensor) -> Any:  # type: ignore[override]
        x, gain, bias, kernels, place = ctx.saved_tensors
        needs_x = any(ctx.needs_input_grad[:3])
        d_maps, d_total, d_squares = channels_last(d_maps), d_total.contiguous(), d_squares.contiguous()
        d_x = torch.empty_like(x) if needs_x else None
        d_affine = None if gain is None else torch.empty(2, *gain.shape, dtype=x.dtype)
        kept = dict(zip([part.start for _, part in ctx.parts], ctx.before, strict=True))

        def work(task: int, part: slice) -> Tensor:
            activated, y = _activated(x, gain, bias, part), kept[part.start]
            y = convolve(activated, kernels[task]) if y is None else y
            d_y = torch.empty_like(y)
            kernel.unpool(
                pixels(y),
                d_total[part].numpy(),
                d_squares[part].numpy(),
                pixels(d_maps[part]),
                pixels(place[part]),
                pixels(d_y),
            )
            if d_x is not None:
                d_activated = input_gradient(d_y, activated, kernels[task])
                _through_affine(d_activated, activated, x[part], gain, part, d_x[part], d_affine)
            return kernel_gradient(d_y, activated, kernels[task])

        d_kernels = torch.zeros_like(kernels)
        for (task, _), d_kernel in zip(ctx.parts, over(ctx.parts, work), strict=True):
            d_kernels[task] += d_kernel
        return d_x, *(d_affine if d_affine is not None else (None, None)), d_kernels, None


def _activated(x: Tensor, gain: Tensor | None, bias: Tensor | None, part: slice) -> Tensor:
    if gain is None or bias is None:
        return x[part]
    out = torch.empty_like(x[part])
    kernel.activate(flat(x[part]), gain[part].detach().numpy(), bias[part].detach().numpy(), flat(out))
    return out


def _through_affine(
    d_activated: Tensor, activated: Tensor, x: Tensor, gain: Any, part: slice, d_x: Tensor, d_affine: Tensor | None
) -> None:
    if d_affine is None:
        d_x.copy_(d_activated)
        return
    d_gain, d_bias = d_affine[:, part].numpy()
    kernel.activate_gradient(
        flat(channels_last(d_activated)),
        flat(activated),
        flat(x),
        gain[part].detach().numpy(),
        flat(d_x),
        d_gain,
        d_bias,
    )
