"""How training sees pictures: turned, mirrored and distorted."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor


def seen(
    images: UInt8[Tensor, "task way example height width channel"], views: Int[Tensor, "task way"], quarters: int
) -> UInt8[Tensor, "task way example height width channel"]:
    """Each way's images in its view: so many quarter turns, and mirrored from view `quarters` on."""

    def where(chosen: Tensor, these: Tensor, those: Tensor) -> Tensor:
        return torch.where(chosen[..., None, None, None, None], these, those)

    result = images
    for quarter in range(1, quarters):
        result = where(views % quarters == quarter, images.rot90(quarter, dims=(3, 4)), result)
    return where(views >= quarters, result.flip(4), result)


def distorted(
    x: Float[Tensor, "*image channel height width"], chances: Float[Tensor, "*image 6"], strength: float
) -> Float[Tensor, "*image channel height width"]:
    """Each image under an affine map of its own; what comes in from outside is as the nearest edge.

    Args:
        x: images.
        chances: drawn evenly from 0 to 1.
        strength: 1 is up to 15° of rotation, 20% of stretching in each direction, 0.2 of shear, and a tenth of
            the side of shift.
    """
    turn, wider, higher, shear, right, down = (strength * (2 * chances - 1)).unbind(-1)
    turn, wider, higher, shear = turn * math.radians(15), 1.2**wider, 1.2**higher, 0.2 * shear
    cos, sin = turn.cos(), turn.sin()
    rows = (cos * wider, cos * shear - sin * higher, 0.2 * right), (sin * wider, sin * shear + cos * higher, 0.2 * down)
    maps = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2).flatten(0, -3)
    flat = x.flatten(0, -4)
    grid = F.affine_grid(maps, list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(x)
