"""The convolutional block in the shape that a CPU likes; the mathematics is that of `metaloom.networks.layers`.

Three things make it fast. Max-pooling comes before norm and ReLU: both are monotone once the norm's scale is
positive (its sign goes into the convolution), so the values are the same and the passes are over a quarter of
the pixels. The moments that a norm needs are sums over the map before pooling, taken while it is in the cache:
images go through in parts that fit there, and in the first block row by row. And second derivatives are
convolutions of the ordinary shape, where torch's own are convolutions with kernels as large as the map.

Gradients of pixels that tie for a maximum go to the first of them, as in torch.
"""

from __future__ import annotations

from jaxtyping import Float
from numba import __version__ as NUMBA
from torch import Tensor

from metaloom.networks.base import Pooled
from metaloom.networks.bilinear import Convolution
from metaloom.networks.cpu import first
from metaloom.networks.cpu.block import Block, FirstBlock
from metaloom.networks.cpu.measured import chosen
from metaloom.networks.cpu.parts import check_fit, threads_for_parts
from metaloom.networks.cpu.second_order import TILED, Activation, PoolAndSum

__all__ = ["NUMBA", "TILED", "Activation", "chosen", "convolve_and_pool", "threads_for_parts"]


def convolve_and_pool(
    x: Float[Tensor, "example channel height width"],
    gain: Float[Tensor, "example channel"] | None,
    bias: Float[Tensor, "example channel"] | None,
    kernels: Float[Tensor, "task out channel 3 3"],
    sums: bool,
    twice: bool,
) -> Pooled:
    """relu(x · gain + bias), 3×3 convolution, 2×2 max-pooling and sums, with a kernel for each task.

    Args:
        x: the examples of all tasks, task by task; as many for each.
        gain: None leaves out the affine map and the ReLU.
        bias: None with it.
        kernels: one per task.
        sums: whether they are wanted; zeros if not.
        twice: the gradient is going to be differentiated again.

    Raises:
        ValueError: kernels that do not fit x, or are of another type.
    """
    check_fit(x, kernels)
    if not twice and gain is None and x.shape[1] <= first.CHANNELS and not x.requires_grad:
        return Pooled(*FirstBlock.apply(x, kernels, sums))
    if not twice:
        return Pooled(*Block.apply(x, gain, bias, kernels, sums))
    activated = x if gain is None else Activation.apply(x, gain, bias)
    return Pooled(*PoolAndSum.apply(Convolution.apply(activated, kernels, TILED)))
