"""Convolutions whose gradients can be differentiated again, whoever computes their products.

torch's own second derivative of a convolution is a convolution with a kernel as large as the map, and with groups one
for each group. A convolution's gradients are bilinear: of what arrives and the kernels, and of what arrives and x. So
theirs are convolutions of the ordinary shape, too, and whoever has the three products has all derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Products(NamedTuple):
    """Who computes the three products of a convolution with kernels (task, out, channel, k, k) that keeps the size.

    Args:
        convolved: (x, kernels): x through the kernels, in memory of its own.
        gradients: (d_y, x, kernels, of_x, of_kernels): d_y back to x and to the kernels, each where it is wanted.
    """

    convolved: Callable[[Tensor, Tensor], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor, bool, bool], tuple[Tensor | None, Tensor | None]]


class Convolution(Function):
    """`Convolution.apply(x, kernels, products)`, differentiable twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, products: Products) -> Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.products = products
        return products.convolved(x, kernels)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> Any:
        return *_Gradients.apply(d_y, *ctx.saved_tensors, ctx.needs_input_grad[0], ctx.products), None


class _Gradients(Function):
    @staticmethod
    def forward(ctx: Any, d_y: Tensor, x: Tensor, kernels: Tensor, of_x: bool, products: Products) -> Any:
        ctx.save_for_backward(d_y, x, kernels)
        ctx.set_materialize_grads(False)
        ctx.products = products
        return products.gradients(d_y, x, kernels, of_x, True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_x: Tensor | None, to_kernels: Tensor | None) -> Any:
        (d_y, x, kernels), products = ctx.saved_tensors, ctx.products
        to_d_y = d_x = d_kernels = None
        if to_kernels is not None:
            to_d_y = products.convolved(x, to_kernels)
            d_x, _ = products.gradients(d_y, x, to_kernels, ctx.needs_input_grad[1], False)
        if to_x is not None:
            through_x = products.convolved(to_x, kernels)
            to_d_y = through_x if to_d_y is None else through_x.add_(to_d_y)
            _, d_kernels = products.gradients(d_y, to_x, kernels, False, True)
        return to_d_y, d_x, d_kernels, None, None
