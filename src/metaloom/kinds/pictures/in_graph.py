"""metaloom.kinds.pictures.resize inside a graph, pixel for pixel."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from metaloom.kinds.pictures.resize import WEIGHT_BITS


def resized(
    images: UInt8[Tensor, "batch height width channel"], size: int
) -> UInt8[Tensor, "batch {size} {size} channel"]:
    """All images of a batch at the network's size."""
    height, width = images.shape[1:3]
    x = images.permute(0, 3, 1, 2).to(torch.float64)
    across = resize_matrix(width, size, images.device, turned=True)
    x = resize_matrix(height, size, images.device) @ x @ across
    return x.clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)


def resize_matrix(
    n_in: int | torch.SymInt, n_out: int, device: torch.device, turned: bool = False
) -> Float[Tensor, "rows columns"]:
    """metaloom.kinds.pictures.resize.resize_matrix; float64 divides its whole numbers exactly up to 65,535 pixels.

    A turned one is made so, as onnxruntime before 1.21 fuses a transposition in float64 into an operator that it lacks.
    """
    n_in = cast(int, n_in)  # SymInt while the graph is traced; it can all that an int can here
    centre_in = (2 * torch.arange(n_in, device=device) + 1) * n_out
    centre_out = (2 * torch.arange(n_out, device=device) + 1) * n_in
    distance = centre_in[:, None] - centre_out if turned else centre_in - centre_out[:, None]
    weight = (2 * torch.sym_max(n_in, n_out) - distance.abs()).clamp(min=0)
    total = weight.sum(dim=0 if turned else 1, keepdim=True)
    units = ((weight * (2 << WEIGHT_BITS) + total).to(torch.float64) / (2 * total).to(torch.float64)).floor()
    return units / (1 << WEIGHT_BITS)
