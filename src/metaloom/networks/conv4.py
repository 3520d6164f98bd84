"""Four convolutional blocks, the shared network of most few-shot papers.

Vinyals et al., Matching Networks for One Shot Learning, 2016 (https://arxiv.org/abs/1606.04080), section 3.1:
3×3 convolution, batch norm, ReLU, 2×2 max-pooling, four times.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Network, Pooled, Tensors
from metaloom.networks.engine import machine_code
from metaloom.networks.layers import (
    EPSILON,
    dropped,
    full,
    groups_of,
    init_norm,
    kept,
    on_cpu,
    pooled_block,
)

BLOCKS = 4
FAR = 1e20  # more than any bias over any gain, little enough to stay finite in float32


@dataclass(frozen=True)
class Conv4(Network):
    """Width: channels of every block."""

    convolutions: ClassVar[bool] = True
    axes: ClassVar[tuple[int, ...]] = (3,)

    @property
    def embed(self) -> int:
        return self.width * (self.shape[-1] // 2**BLOCKS) ** 2

    def threads(self, device: torch.device) -> AbstractContextManager[None]:
        code = machine_code() if device.type == "cpu" else None
        return code.threads_for_parts() if code else nullcontext()

    def init(self, generator: torch.Generator) -> Tensors:
        """He-normal convolutions, norms at one and zero."""
        weights: Tensors = {}
        channels = self.shape[0]
        for block in range(BLOCKS):
            std = math.sqrt(2 / (channels * 9))
            shape = (self.width, channels, 3, 3)
            weights[f"{block}.conv"] = torch.randn(shape, generator=generator, device=generator.device) * std
            weights |= init_norm(self.norm, self.width, f"{block}.", generator.device)
            channels = self.width
        return weights

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, "*task example channel height width"],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        if on_cpu(x) and (code := machine_code()):
            return self._on_cpu(code, weights, x, statistics, twice, generator)
        used: Tensors = {}
        for block in range(BLOCKS):
            x = pooled_block(self.norm, x, weights, f"{block}.", statistics, used, twice)
            x = dropped(x, self.dropout, generator)
        return full(x.flatten(-3)), used

    def _on_cpu(
        self,
        code: ModuleType,
        weights: Tensors,
        x: Tensor,
        statistics: Tensors | None,
        twice: bool,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensors]:
        lead = x.shape[:-3]
        used: Tensors = {}
        maps, gain, bias = x.flatten(0, -1 - len(self.shape)), None, None
        sums = self.norm == "group" or (self.norm == "batch" and statistics is None)
        for block in range(BLOCKS):
            kernel, sign = weights[f"{block}.conv"], None
            if self.norm != "none":
                sign = torch.where(weights[f"{block}.scale"].detach() < 0, -1.0, 1.0).to(kernel.dtype)
                kernel = kernel * sign[..., None, None, None]
            kernels = kernel if kernel.dim() == 5 else kernel[None]  # one for all tasks is one task to the kernels
            pooled = code.convolve_and_pool(maps, gain, bias, kernels, sums, twice)
            pixels = maps.shape[-2] * maps.shape[-1]
            maps = pooled.maps
            gain, bias = self._affine(pooled, pixels, weights, f"{block}.", sign, statistics, used, lead)
            maps, gain, bias = _dropped_below(maps, gain, bias, self.dropout, generator)
        return code.Activation.apply(maps, gain, bias).flatten(1).unflatten(0, lead), used

    def _affine(
        self,
        pooled: Pooled,
        pixels: int,
        weights: Tensors,
        prefix: str,
        sign: Tensor | None,
        statistics: Tensors | None,
        used: Tensors,
        lead: torch.Size,
    ) -> tuple[Tensor, Tensor]:
        """The norm as gain and bias of every example and channel."""
        shift = weights[f"{prefix}shift"]
        if sign is None:
            return _by_example(torch.ones_like(shift), lead), _by_example(shift, lead)
        scale = weights[f"{prefix}scale"] * sign
        if self.norm == "group":
            mean, variance = _group_moments(pooled, pixels, _by_example(sign, lead), groups_of(self.width))
            gain = _by_example(scale, lead) * torch.rsqrt(variance + EPSILON)
            return gain, _by_example(shift, lead) - mean * _by_example(sign, lead) * gain
        if statistics is None:
            mean, square = (each.unflatten(0, lead).mean(dim=-2) / pixels for each in (pooled.total, pooled.squares))
            mean, variance = mean * sign, (square - mean.square()).clamp(min=0)
        else:
            mean, variance = statistics[f"{prefix}mean"], statistics[f"{prefix}variance"]
        used[f"{prefix}mean"], used[f"{prefix}variance"] = mean, variance
        gain = scale * torch.rsqrt(variance + EPSILON)
        return _by_example(gain, lead), _by_example(shift - mean * sign * gain, lead)


def _dropped_below(
    maps: Tensor, gain: Tensor, bias: Tensor, share: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Dropout of relu(maps · gain + bias), gain > 0, before it is taken: what is dropped goes far below zero."""
    if share == 0 or generator is None:
        return maps, gain, bias
    return torch.where(kept(maps, share, generator), maps, -FAR), gain / (1 - share), bias / (1 - share)


def _by_example(values: Float[Tensor, "*task channel"], lead: torch.Size) -> Float[Tensor, "example channel"]:
    """Values of all examples, or of each task, repeated for every example of all tasks."""
    if values.dim() == 1:
        return values.expand(math.prod(lead), -1)
    return values.repeat_interleave(lead[-1], dim=0)


def _group_moments(
    pooled: Pooled, pixels: int, sign: Float[Tensor, "example channel"], groups: int
) -> tuple[Float[Tensor, "example channel"], Float[Tensor, "example channel"]]:
    """Each channel's mean and variance are those of its group, as they are without the signs."""
    sums = (pooled.total * sign, pooled.squares)
    mean, square = (each.unflatten(1, (groups, -1)).mean(dim=2, keepdim=True) / pixels for each in sums)
    variance = (square - mean.square()).clamp(min=0)
    size = pooled.maps.shape[1] // groups
    return mean.expand(-1, -1, size).flatten(1), variance.expand(-1, -1, size).flatten(1)
