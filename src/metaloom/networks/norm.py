"""Normalisation as pure functions whose statistics are values like any other."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-5
GROUPS = 8  # at most; a group has at least four channels, as a deep map may have a single pixel


def init_norm(norm: str, width: int, prefix: str, device: torch.device) -> dict[str, Tensor]:
    """Scale and shift of a norm over `width` channels; a plain shift where there is no norm."""
    shift = {f"{prefix}shift": torch.zeros(width, device=device)}
    return shift if norm == "none" else {f"{prefix}scale": torch.ones(width, device=device)} | shift


def normalise(
    norm: str,
    x: Float[Tensor, "batch channel height width"],
    weights: dict[str, Tensor],
    prefix: str,
    statistics: dict[str, Tensor] | None,
    used: dict[str, Tensor],
    differentiable: bool,
) -> Float[Tensor, "batch channel height width"]:
    """Normalise `x`; batch norm takes the given statistics, or those of `x`, and notes them in `used`.

    A batch norm whose statistics are given is an affine map: a prediction cannot depend on its batch. Those
    noted carry gradients if `differentiable`; if not, torch's fused kernel does it all, many times faster.
    """
    shift = weights[f"{prefix}shift"]
    if norm == "none":
        return x + shift[:, None, None]
    scale = weights[f"{prefix}scale"]
    if norm == "group":
        return F.group_norm(x, math.gcd(max(x.shape[1] // 4, 1), GROUPS), scale, shift, EPSILON)
    mean_name, variance_name = f"{prefix}mean", f"{prefix}variance"
    if statistics is None and not differentiable:
        y, used[mean_name], used[variance_name] = _fused(x, scale, shift)
        return y
    mean, variance = _moments(x) if statistics is None else (statistics[mean_name], statistics[variance_name])
    used[mean_name], used[variance_name] = mean, variance
    gain = scale * torch.rsqrt(variance + EPSILON)
    return torch.addcmul((shift - mean * gain)[:, None, None], x, gain[:, None, None])


def _fused(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm in training mode; the mean and (biased) variance come from its running buffers."""
    mean, variance = torch.zeros_like(scale), torch.ones_like(scale)
    y = F.batch_norm(x, mean, variance, scale, shift, training=True, momentum=1.0, eps=EPSILON)
    n = x.numel() // x.shape[1]
    return y, mean, variance * ((n - 1) / n)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel; over a flat view, as torch's reduction of three axes is slow."""
    flat = x.movedim(1, -1).reshape(-1, x.shape[1])
    mean = flat.mean(dim=0)
    return mean, (flat - mean).square().mean(dim=0)
