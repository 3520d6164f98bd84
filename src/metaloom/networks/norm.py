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
) -> Float[Tensor, "batch channel height width"]:
    """Normalise `x`; batch norm takes the given statistics, or those of `x`, and notes them in `used`.

    A batch norm whose statistics are given is an affine map: a prediction cannot depend on its batch. Taken
    from `x` they carry gradients, so that a method can use a support set's statistics for its queries.
    """
    shift = weights[f"{prefix}shift"]
    if norm == "none":
        return x + shift[:, None, None]
    scale = weights[f"{prefix}scale"]
    if norm == "group":
        return F.group_norm(x, math.gcd(max(x.shape[1] // 4, 1), GROUPS), scale, shift, EPSILON)
    if statistics is None:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    else:
        mean, variance = statistics[f"{prefix}mean"], statistics[f"{prefix}variance"]
    used[f"{prefix}mean"], used[f"{prefix}variance"] = mean, variance
    gain = scale * torch.rsqrt(variance + EPSILON)
    return x * gain[:, None, None] + (shift - mean * gain)[:, None, None]
