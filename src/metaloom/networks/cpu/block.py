"""A whole block in one pass over parts of the images that fit the cache; differentiable once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from metaloom.networks.cpu import first, passes
from metaloom.networks.cpu import kernels as kernel
from metaloom.networks.cpu.convolution import form_of, gathered, gradient_space, prepared
from metaloom.networks.cpu.parts import Part, channels_last, empty, flat, over, parts_of, pixels


class Block(Function):
    """See `metaloom.networks.cpu.convolve_and_pool`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Any, bias: Any, kernels: Tensor, sums: bool) -> Any:
        x = channels_last(x)
        maps, place, total, squares = results = _results(x, kernels)
        if any(ctx.needs_input_grad):
            ctx.y = _forward(x, gain, bias, kernels, sums, results)
        else:
            _inference(x, gain, bias, kernels, sums, results)
        ctx.save_for_backward(x, gain, bias, kernels, place)
        return maps, total, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_maps: Tensor, d_total: Tensor, d_squares: Tensor) -> Any:
        x, gain, bias, kernels, place = ctx.saved_tensors
        affine = gain is not None
        d_x = torch.empty_like(x) if any(ctx.needs_input_grad[:3]) else None
        d_affine = torch.empty(2, *gain.shape, dtype=x.dtype) if affine else torch.empty(2, 0, 0, dtype=x.dtype)
        parts = parts_of(x, kernels)
        d_kernels = gradient_space(kernels, parts)
        form = form_of(kernels, parts)
        turned = prepared(kernels, parts, turned=True) if d_x is not None else None
        arrays = pixels(x), _array(gain, x), _array(bias, x), pixels(place), pixels(channels_last(d_maps))
        sums = _array(d_total, x), _array(d_squares, x)

        def work(part: Part) -> None:
            of_x, of_gain, of_bias, of_place, of_maps = (each[part.examples] for each in arrays)
            activated = np.empty_like(of_x) if affine else of_x
            y = pixels(ctx.y[part.examples])
            d_y = np.empty_like(y)
            given = of_x, affine, of_gain
            arriving = of_place, of_maps, *(each[part.examples] for each in sums)
            passes.backward(*given, of_bias, form, activated, y, *arriving, d_y, d_kernels[part.index])
            if d_x is not None and turned is not None:
                to_x = pixels(d_x[part.examples])
                d_activated = np.empty_like(of_x) if affine else to_x
                gains = (each[part.examples] for each in d_affine.numpy())
                passes.backward_to_input(
                    *given, turned.values[part.task], turned.form, activated, d_y, d_activated, to_x, *gains
                )

        over(parts, work)
        to_affine = d_affine if affine and d_x is not None else (None, None)
        return d_x, *to_affine, gathered(d_kernels, parts, kernels), None


class FirstBlock(Function):
    """The same for images that want no gradient and have few channels: keeps no map before pooling."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, sums: bool) -> Any:
        x = channels_last(x)
        maps, place, total, squares = results = _results(x, kernels)
        ctx.save_for_backward(x, kernels, place)
        if not any(ctx.needs_input_grad):
            _inference(x, None, None, kernels, sums, results)
            return maps, total, squares
        parts = parts_of(x, kernels)
        values = prepared(kernels, parts).values
        of_all = pixels(maps), pixels(place), total.numpy(), squares.numpy()

        def work(part: Part) -> None:
            filled = (each[part.examples] for each in of_all)
            first.convolve_and_pool(pixels(x[part.examples]), values[part.task], sums, *filled)

        over(parts, work)
        return maps, total, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_maps: Tensor, d_total: Tensor, d_squares: Tensor) -> Any:
        x, kernels, place = ctx.saved_tensors
        parts = parts_of(x, kernels)
        values = prepared(kernels, parts).values
        d_kernels = gradient_space(kernels, parts)
        of_all = pixels(place), pixels(channels_last(d_maps)), _array(d_total, x), _array(d_squares, x)

        def work(part: Part) -> None:
            arriving = (each[part.examples] for each in of_all)
            first.kernel_gradient(pixels(x[part.examples]), values[part.task], *arriving, d_kernels[part.index])

        over(parts, work)
        return None, gathered(d_kernels, parts, kernels), None


def _results(x: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for maxima and their places, and zeros for the sums."""
    shape = (len(x), kernels.shape[1], x.shape[2] // 2, x.shape[3] // 2)
    total, squares = x.new_zeros(2, *shape[:2])
    return empty(x, shape), empty(x, shape, torch.uint8), total, squares


def _forward(x: Tensor, gain: Any, bias: Any, kernels: Tensor, sums: bool, results: tuple[Tensor, ...]) -> Tensor:
    """Fills the results; returns the map before pooling, which the backward pass is to have."""
    affine = gain is not None
    y = empty(x, (len(x), kernels.shape[1], *x.shape[2:]))
    parts = parts_of(x, kernels)
    values, form = prepared(kernels, parts)
    maps, place, total, squares = results
    arrays = pixels(x), _array(gain, x), _array(bias, x)
    filled = pixels(maps), pixels(place), total.numpy(), squares.numpy()

    def work(part: Part) -> None:
        of_x, of_gain, of_bias = (each[part.examples] for each in arrays)
        activated = np.empty_like(of_x) if affine else of_x
        given, of_results = (of_x, affine, of_gain, of_bias), (each[part.examples] for each in filled)
        passes.forward(*given, values[part.task], form, sums, activated, pixels(y[part.examples]), *of_results)

    over(parts, work)
    return y


def _inference(x: Tensor, gain: Any, bias: Any, kernels: Tensor, sums: bool, results: tuple[Tensor, ...]) -> None:
    """The same with the library's convolution: it rounds less, and without a backward pass it is as fast."""

    def work(part: Part) -> None:
        maps, place, total, squares = (each[part.examples] for each in results)
        activated = x[part.examples]
        if gain is not None:
            activated = torch.empty_like(activated)
            affine = (_array(each, x)[part.examples] for each in (gain, bias))
            kernel.activate(flat(x[part.examples]), *affine, flat(activated))
        y = channels_last(F.conv2d(activated, kernels[part.task], padding=1))
        if sums:
            kernel.pixel_sums(flat(y), total.numpy(), squares.numpy())
        kernel.pool(pixels(y), pixels(maps), pixels(place))

    over(parts_of(x, kernels), work)


def _array(values: Tensor | None, like: Tensor) -> np.ndarray:
    """(example, channel); empty where there are no values."""
    return (like.new_empty(0, 0) if values is None else values.detach().contiguous()).numpy()
