"""What a learning method does to a support set, as operators that ONNX has.

`traced` records a pure function with all that autograd does inside it, so the inner steps of a gradient method are
unrolled into convolutions, products and sums. Operators of torch that have no form in ONNX, one that keeps the
example's sizes, or one that onnxruntime is slow at are written here as others. A system of equations becomes an ONNX
Loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from onnx import numpy_helper
from onnxscript import DOUBLE, FLOAT, script
from onnxscript import opset18 as op
from torch import Tensor
from torch._decomp import core_aten_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from metaloom.methods.model import one_hot

aten = torch.ops.aten
FEW_CHANNELS = 8  # below which onnxruntime convolves faster than it multiplies
SUM = 2  # the code of reduction="sum"


def traced(function: Callable[..., Any], *examples: Tensor) -> GraphModule:
    """The function as a graph; sizes of the examples stay variables, tensors that it closes over become constants."""
    table = {**core_aten_decompositions(), **DECOMPOSITIONS}
    with torch.no_grad():
        return make_fx(function, table, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*examples)


def _convolution_backward(
    slope: Tensor,
    x: Tensor,
    kernel: Tensor,
    bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Tensor | None, Tensor | None, None]:
    """The gradient for x is a convolution with the turned kernel, the one for the kernel a product."""
    if transposed or groups != 1 or {*stride, *dilation} != {1} or wanted[2]:
        raise NotImplementedError("the networks have plain convolutions without bias only")
    rest = [size - 1 - pad for size, pad in zip(kernel.shape[2:], padding, strict=True)]
    of_x = F.conv2d(slope, kernel.transpose(0, 1).flip(2, 3), padding=rest) if wanted[0] else None
    return of_x, _of_kernel(slope, x, kernel, padding) if wanted[1] else None, None


def _of_kernel(
    slope: Float[Tensor, "item out h w"],
    x: Float[Tensor, "item channel height width"],
    kernel: Float[Tensor, "out channel k k"],
    padding: list[int],
) -> Float[Tensor, "out channel k k"]:
    """A convolution of x with the slope; of many channels a product for each place of the kernel, in half the time."""
    x, slope = x.transpose(0, 1), slope.transpose(0, 1)
    if len(x) < FEW_CHANNELS:
        return F.conv2d(x, slope, padding=padding).transpose(0, 1)
    h, w = slope.shape[-2:]
    x, slope = F.pad(x, [padding[1], padding[1], padding[0], padding[0]]), slope.flatten(1)
    rows, columns = kernel.shape[2:]
    places = [slope @ x[..., i : i + h, j : j + w].flatten(1).mT for i in range(rows) for j in range(columns)]
    return torch.stack(places, dim=-1).unflatten(-1, (rows, columns))


@torch.library.custom_op("metaloom::max_pool", mutates_args=(), schema="(Tensor x) -> Tensor")
def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


@_max_pool.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2))


def _max_pool_forward(
    x: Float[Tensor, "item channel height width"],
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil: bool = False,
) -> tuple[Tensor, Tensor]:
    """The maxima, and once more in place of where they were: their places take onnxruntime ten times as long."""
    _check_pooling(kernel, stride, padding, ceil)
    maxima = torch.ops.metaloom.max_pool(x)
    return maxima, maxima


def _max_pool_backward(
    slope: Float[Tensor, "item channel h w"],
    x: Float[Tensor, "item channel height width"],
    kernel: list[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
    maxima: Float[Tensor, "item channel h w"],
) -> Float[Tensor, "item channel height width"]:
    """Gradient of max-pooling: the first of a window's pixels that is the maximum takes the slope, as in torch."""
    _check_pooling(kernel, stride, padding, ceil)
    (height, width), (h, w) = x.shape[-2:], slope.shape[-2:]
    moved = []
    for row, column in ((0, 0), (0, 1), (1, 0)):
        pixel = x[..., row : 2 * h : 2, column : 2 * w : 2]
        moved.append(slope * (pixel == maxima).to(slope.dtype))
        slope = slope - moved[-1]
    moved.append(slope)  # no other pixel was the maximum
    rows = [torch.stack(pair, dim=-1).flatten(-2) for pair in (moved[:2], moved[2:])]
    whole = torch.stack(rows, dim=-2).flatten(-3, -2)
    odd = (width - 2 * w, height - 2 * h)
    return F.pad(whole, (0, odd[0], 0, odd[1])) if any(odd) else whole


def _check_pooling(kernel: list[int], stride: Sequence[int], padding: Sequence[int], ceil: bool) -> None:
    if kernel != [2, 2] or list(stride) not in ([], [2, 2]) or {*padding} != {0} or ceil:
        raise NotImplementedError("the networks pool 2 by 2 only")


def _relu_backward(slope: Tensor, x: Tensor, threshold: float) -> Tensor:
    """Gradient of ReLU as a product: onnxruntime's Where takes ten times as long."""
    return slope * (x > threshold).to(slope.dtype)


def _nll_forward(
    x: Float[Tensor, "item n_way"],
    target: Int[Tensor, " item"],
    weight: Tensor | None,
    reduction: int,
    ignored: int,
) -> tuple[Tensor, Tensor]:
    _check_sum(reduction)
    scaled = x if weight is None else x * weight
    return -torch.where(one_hot(target, x.shape[1]), scaled, 0.0).sum(), x.new_zeros(())


def _nll_backward(
    slope: Tensor,
    x: Float[Tensor, "item n_way"],
    target: Int[Tensor, " item"],
    weight: Tensor | None,
    reduction: int,
    ignored: int,
    total: Tensor,
) -> Tensor:
    _check_sum(reduction)
    scaled = -slope if weight is None else -slope * weight
    return torch.where(one_hot(target, x.shape[1]), scaled, 0.0)


def _check_sum(reduction: int) -> None:
    if reduction != SUM:
        raise NotImplementedError("methods sum their inner losses")


@torch.library.custom_op("metaloom::solve", mutates_args=(), schema="(Tensor a, Tensor b) -> Tensor")
def _solve(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.solve(a, b)


@_solve.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return torch.empty_like(b)


def _solve_ex(a: Tensor, b: Tensor, *, left: bool = True, check_errors: bool = False) -> tuple[Tensor, ...]:
    solution = torch.ops.metaloom.solve(a, b)
    return solution, a, b, b  # of the four, the methods take the first


@script(default_opset=op)
def gauss_jordan(a: FLOAT[...], b: FLOAT[...]) -> FLOAT[...]:  # noqa: D103  (onnxscript has no docstrings)
    n = op.Squeeze(op.Shape(a, start=0, end=1))
    places = op.Range(op.Constant(value_int=0), n, op.Constant(value_int=1))
    system = op.Cast(op.Concat(a, b, axis=1), to=DOUBLE.dtype)
    one = op.Cast(op.Constant(value_float=1.0), to=DOUBLE.dtype)
    for k in range(n):
        row = op.Gather(system, k, axis=0)
        row = op.Div(row, op.Gather(row, k, axis=0))
        column = op.Gather(system, k, axis=1)
        column = op.Where(op.Equal(places, k), op.Sub(column, one), column)
        product = op.Mul(
            op.Unsqueeze(column, op.Constant(value_ints=[1])), op.Unsqueeze(row, op.Constant(value_ints=[0]))
        )
        system = op.Sub(system, product)
    far = op.Constant(value_ints=[9223372036854775807])
    return op.CastLike(op.Slice(system, op.Shape(a, start=0, end=1), far, op.Constant(value_ints=[1])), b)


def solved(a: Any, b: Any) -> Any:
    """A·X = B in ONNX by Gauss and Jordan's elimination, in float64 and without a search for pivots: A is symmetric and
    positive definite, so that its pivots are (Golub, Van Loan: Matrix Computations, 4th edition, section 4.2)."""
    return gauss_jordan(a, b)


def multiplied(a: Any, b: Any) -> Any:
    """A product of matrices as Gemm: onnxruntime before 1.21 fuses MatMul and a transposition in float64 into an
    operator that it lacks."""
    return op.Gemm(a, b)


def pooled(x: Any) -> Any:
    """The maxima of 2 by 2."""
    maxima, _ = op.MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
    return maxima


def group_normed(
    x: Any,
    groups: int,
    weight: None = None,
    bias: None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """Without scale and shift, which the networks apply themselves: the exporter's form multiplies by one and adds
    zero."""
    _check_plain(weight, bias)
    flat = _in_groups(x, groups)
    one, zero = (op.ConstantOfShape(op.Constant(value_ints=[groups]), value=each) for each in (ONE, ZERO))
    return op.Reshape(op.InstanceNormalization(flat, one, zero, epsilon=eps), op.Shape(x))


def native_group_normed(
    x: Any, weight: None, bias: None, items: Any, channels: Any, pixels: Any, groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """Group norm as `group_normed`, with the means and reciprocal deviations, which the gradient needs."""
    flat, pixel = _in_groups(x, groups), op.Constant(value_ints=[2])
    mean = op.ReduceMean(flat, pixel)
    centred = op.Sub(flat, mean)
    variance = op.ReduceMean(op.Mul(centred, centred), pixel, keepdims=False)
    deviation = op.Sqrt(op.Add(variance, op.Constant(value_float=eps)))
    return group_normed(x, groups, weight, bias, eps), op.Squeeze(mean, pixel), op.Reciprocal(deviation)


def _check_plain(weight: Any, bias: Any) -> None:
    if weight is not None or bias is not None:
        raise NotImplementedError("the networks apply scale and shift themselves")


def _in_groups(x: Any, groups: int) -> Any:
    return op.Reshape(x, op.Constant(value_ints=[0, groups, -1]))


ONE, ZERO = (numpy_helper.from_array(np.array([value], np.float32)) for value in (1.0, 0.0))
DECOMPOSITIONS = {
    aten.convolution_backward.default: _convolution_backward,
    aten.max_pool2d_with_indices.default: _max_pool_forward,
    aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
    aten.threshold_backward.default: _relu_backward,
    aten.nll_loss_forward.default: _nll_forward,
    aten.nll_loss_backward.default: _nll_backward,
    aten._linalg_solve_ex.default: _solve_ex,
}
TRANSLATIONS = {
    torch.ops.metaloom.solve.default: solved,
    torch.ops.metaloom.max_pool.default: pooled,
    aten.mm.default: multiplied,
    aten.group_norm.default: group_normed,
    aten.native_group_norm.default: native_group_normed,
}
