"""Layers as pure functions, with or without a leading task axis on the input and on the weights.

This is the form for every network and for export. `metaloom.networks.cpu` has conv4's block in the form that a CPU
likes, and convolutions that it likes for all; `metaloom.networks.gpu` has the layers that other devices take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from metaloom.networks import fused, gpu
from metaloom.networks.base import Tensors
from metaloom.networks.bilinear import Convolution
from metaloom.networks.engine import machine_code

EPSILON = 1e-5
GROUPS = 8  # at most; a group has at least four channels, as a deep map may have a single pixel


def convolution(
    x: Float[Tensor, "*task example channel height width"], kernel: Float[Tensor, "*any out channel k k"], twice: bool
) -> Float[Tensor, "*task example out height width"]:
    """A convolution that keeps the size (k is odd), with one kernel for all or one for each task.

    In machine code tasks go one after the other, elsewhere together. There, and in a graph that is traced, the result
    of several kernels lies in memory as (example, task, …), which the layers after it pass on.
    """
    x, kernel = _lowered(x), _lowered(kernel)
    stacked = kernel if kernel.dim() == 5 else kernel[None]
    if beyond_cpu(x) and kernel.dim() == 5:
        return gpu.parted(Convolution.apply(gpu.joined(x), stacked, gpu.GROUPED), len(stacked))
    lead, flat = x.shape[:-3], x.flatten(0, -4)
    if beyond_cpu(x) and (twice or x.shape[-3] <= gpu.FEW):
        return Convolution.apply(flat, stacked, gpu.GROUPED).unflatten(0, lead)
    if on_cpu(x) and (code := machine_code()) and (twice or len(stacked) > 1):
        return Convolution.apply(flat, stacked, code.TILED).unflatten(0, lead)
    if len(stacked) == 1:
        layout = torch.channels_last if on_cpu(x) else torch.preserve_format
        return F.conv2d(flat, stacked[0].contiguous(memory_format=layout), padding=kernel.shape[-1] // 2).unflatten(
            0, lead
        )
    y = F.conv2d(gpu.joined(x), stacked.flatten(0, 1), padding=kernel.shape[-1] // 2, groups=len(stacked))
    return gpu.parted(y, len(stacked))


def linear(
    x: Float[Tensor, "*task example inputs"], weight: Float[Tensor, "*any outputs inputs"]
) -> Float[Tensor, "*task example outputs"]:
    """x · matrixᵀ with one matrix for all or one per task."""
    return _lowered(x) @ _lowered(weight).mT


_in_bfloat16 = False  # no context variable: autograd's own threads, which compute again what was not kept, see it too


@contextmanager
def in_bfloat16() -> Iterator[None]:
    """Convolutions and products of networks in bfloat16; norms and embeddings stay float32.

    torch.autocast would also take what methods do with embeddings: distances and solved heads need all digits.
    """
    global _in_bfloat16
    before, _in_bfloat16 = _in_bfloat16, True
    try:
        yield
    finally:
        _in_bfloat16 = before


def _lowered(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16) if _in_bfloat16 else x


def full(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def on_cpu(x: Tensor) -> bool:
    """Whether to take machine code: not in bfloat16, and not while torch traces a graph that may run elsewhere."""
    lowered = _in_bfloat16 or x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and not lowered and not traced() and machine_code() is not None


def beyond_cpu(x: Tensor) -> bool:
    """Whether to take the form of `metaloom.networks.gpu`: what is traced, and a CPU without machine code, have torch's
    own operators instead."""
    plain = traced() or (x.device.type == "cpu" and machine_code() is None)
    return not plain and not on_cpu(x)


def traced() -> bool:
    """Whether torch traces a graph that may run elsewhere."""
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode()


def max_pooled(x: Float[Tensor, "*task example channel height width"]) -> Tensor:
    """2×2 maxima; an odd last row or column is left out."""
    if not beyond_cpu(x):
        return F.max_pool2d(x.flatten(0, -4), 2).unflatten(0, x.shape[:-3])
    if x.dim() == 5 and not x.is_contiguous():  # joined tasks: see `convolution`
        return gpu.parted(gpu.MaxPool.apply(gpu.joined(x)), len(x))
    return gpu.MaxPool.apply(x.flatten(0, -4)).unflatten(0, x.shape[:-3])


def pooled_block(
    norm: str, x: Tensor, weights: Tensors, prefix: str, statistics: Tensors | None, used: Tensors, twice: bool
) -> Float[Tensor, "*task example out height width"]:
    """Convolution, norm, 2×2 max-pooling and ReLU, with kernels for all or for each task."""
    kernel = weights[f"{prefix}conv"]
    if norm == "group" and beyond_cpu(x) and fused.fits(x, kernel.shape[-4] // groups_of(kernel.shape[-4])):
        return _fused_block(x, kernel, weights[f"{prefix}scale"], weights[f"{prefix}shift"], twice)
    x = convolution(x, kernel, twice)
    x = normalise(norm, x, weights, prefix, statistics, used, twice=twice)
    # in the papers ReLU comes first: the same values, on four times the pixels
    return F.relu(max_pooled(x))


def _fused_block(x: Tensor, kernel: Tensor, scale: Tensor, shift: Tensor, twice: bool) -> Tensor:
    picture = kernel.shape[-3:] == (1, fused.SIDE, fused.SIDE) and not x.requires_grad
    stacked, of_tasks = kernel if kernel.dim() == 5 else kernel[None], kernel.dim() == 5
    maps = x if picture else convolution(x, kernel, twice)
    flat = gpu.joined(maps) if of_tasks else maps.flatten(0, -4)
    groups = groups_of(kernel.shape[-4]) * len(stacked)
    affine = scale.flatten(), shift.flatten()
    y = fused.normed_pool(flat, stacked if picture else None, *affine, groups, EPSILON)
    return gpu.parted(y, len(stacked)) if of_tasks else y.unflatten(0, x.shape[:-3])


def dropped(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Dropout: Srivastava et al., 2014. What is left is scaled up, so that the mean stays."""
    if share == 0 or generator is None:
        return x
    return x * kept(x, share, generator) / (1 - share)


def kept(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """True where a value stays; the same draws on a device, whatever form the network takes there."""
    return torch.rand(x.shape, generator=generator, device=x.device) >= share


def init_norm(norm: str, width: int, prefix: str, device: torch.device) -> Tensors:
    """Scale and shift of a norm over `width` channels; a plain shift where there is no norm."""
    shift = {f"{prefix}shift": torch.zeros(width, device=device)}
    return shift if norm == "none" else {f"{prefix}scale": torch.ones(width, device=device)} | shift


def normalise(
    norm: str,
    x: Float[Tensor, "*task_example channel_pixels"] | Tensor,
    weights: Tensors,
    prefix: str,
    statistics: Tensors | None,
    used: Tensors,
    *,
    pixels: int = 2,
    twice: bool = False,
) -> Tensor:
    """Normalise `x`, (*task, example, channel) and as many axes of pixels as `pixels` says.

    Batch norm takes the given statistics, or those of each task's examples, and notes them in `used`. With
    statistics that are given it is an affine map, so that a prediction cannot depend on its batch. Those noted
    carry gradients if `twice`; if not, torch's fused kernel does it all, many times faster (but it writes into buffers,
    which a graph that is being traced cannot).
    """
    shift = weights[f"{prefix}shift"]
    if norm == "none":
        return x + _spread(shift, pixels)
    scale = weights[f"{prefix}scale"]
    if norm == "group":
        return _group_norm(x, scale, shift, pixels)
    names = f"{prefix}mean", f"{prefix}variance"
    given = None if statistics is None else (statistics[names[0]], statistics[names[1]])
    y, used[names[0]], used[names[1]] = _batch_norm(x, scale, shift, given, pixels, twice)
    return y


def _group_norm(x: Tensor, scale: Tensor, shift: Tensor, pixels: int) -> Tensor:
    if pixels == 2 and beyond_cpu(x):
        return _group_normed(full(x), scale, shift)
    flat = x.flatten(0, x.dim() - pixels - 2)
    y = F.group_norm(flat, groups_of(flat.shape[1]), eps=EPSILON).view_as(x)
    return torch.addcmul(_spread(shift, pixels), y, _spread(scale, pixels))


def _batch_norm(
    x: Tensor, scale: Tensor, shift: Tensor, given: tuple[Tensor, Tensor] | None, pixels: int, twice: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised, and the mean and variance that did it."""
    if given is None and not twice and x.dim() == pixels + 2 and not is_in_torch_dispatch_mode():
        return _fused(x, scale, shift)
    if given is None and not twice and beyond_cpu(x):
        of_tasks = (weight.expand(len(x), -1).flatten() for weight in (scale, shift))
        y, *moments = _fused(gpu.joined(full(x)), *of_tasks)
        mean, variance = (each.unflatten(0, (len(x), -1)) for each in moments)
        return gpu.parted(y, len(x)), mean, variance
    mean, variance = _moments(x, pixels) if given is None else given
    gain = scale * torch.rsqrt(variance + EPSILON)
    y = torch.addcmul(_spread(shift - mean * gain, pixels), x, _spread(gain, pixels))
    return y, mean, variance


def groups_of(channels: int) -> int:
    """Groups of a group norm over so many channels."""
    return math.gcd(channels, max(channels // 4, 1), GROUPS)


def _spread(values: Float[Tensor, "*task channel"], pixels: int) -> Tensor:
    """With an axis for the examples (where there is one for tasks) and for the pixels."""
    values = values.unsqueeze(-2) if values.dim() == 2 else values
    return values[(..., *[None] * pixels)]


def _group_normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Group norm of each example's channels, with one scale and shift for all tasks or one for each task."""
    groups = groups_of(x.shape[-3])
    if scale.dim() == 1:
        flat = x.flatten(0, -4).contiguous()
        return gpu.GroupNorm.apply(flat, scale, shift, groups, EPSILON).view(x.shape)
    flat = gpu.joined(x).contiguous()
    y = gpu.GroupNorm.apply(flat, scale.flatten(), shift.flatten(), groups * len(scale), EPSILON)
    return gpu.parted(y, len(scale))


def _fused(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm in training mode; the mean and (biased) variance come from its running buffers."""
    mean, variance = torch.zeros_like(scale), torch.ones_like(scale)
    y = F.batch_norm(x, mean, variance, scale, shift, training=True, momentum=1.0, eps=EPSILON)
    n = x.numel() // x.shape[1]
    return y, mean, variance * ((n - 1) / n)


def _moments(x: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel; over a flat view, as torch's reduction of three axes is slow."""
    flat = full(x.movedim(-1 - pixels, -1).flatten(-2 - pixels, -2))
    mean = flat.mean(dim=-2)
    return mean, (flat - mean.unsqueeze(-2)).square().mean(dim=-2)
