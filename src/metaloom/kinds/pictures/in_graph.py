"""metaloom.kinds.pictures.resize inside a graph, pixel for pixel.

Some runtimes (OpenVINO) hold whole numbers in 32 bits: here they stay below 2^31, and none is clipped, as an open end
is a number of 64 bits there. The rest is float64, which holds whole numbers up to 2^53.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from metaloom.kinds.pictures.resize import PAPER, WEIGHT_BITS, Fit, Pixels, Span


def resized(
    images: UInt8[Tensor, "batch height width channel"], size: int, fit: Fit = "stretch", inverted: bool = False
) -> UInt8[Tensor, "batch {size} {size} channel"]:
    """All images of a batch at the network's size, first turned from dark to light where they are `inverted`."""
    height, width = images.shape[1:3]
    spans = [
        Span.of(side, other, size, fit, most=torch.sym_max, least=torch.sym_min)
        for side, other in ((height, width), (width, height))
    ]
    x = images.permute(0, 3, 1, 2).to(torch.float64)
    x = PAPER - x if inverted else x
    down = resize_matrix(spans[0], height, size, images.device)
    across = resize_matrix(spans[1], width, size, images.device, turned=True)
    x = down @ x @ across
    if fit == "pad":
        within = [_within(span.first, span.pixels, size, images.device) for span in spans]
        x = x + PAPER * (~(within[0][:, None] & within[1])).to(torch.float64)
    return x.clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)


def resize_matrix(
    span: Span, n_in: Pixels, n_out: int, device: torch.device, turned: bool = False
) -> Float[Tensor, "rows columns"]:
    """metaloom.kinds.pictures.resize.resize_matrix at the place of a span, zero elsewhere; exact up to 65,535 pixels.

    A turned one is made so, as onnxruntime before 1.21 fuses a transposition in float64 into an operator that it lacks.
    """
    start, length, first, pixels = span
    centre_in = (2 * (torch.arange(n_in, device=device) - start) + 1) * pixels
    centre_out = (2 * (torch.arange(n_out, device=device) - first) + 1) * length
    distance = centre_in[:, None] - centre_out if turned else centre_in - centre_out[:, None]
    weight = (2 * torch.sym_max(length, pixels) - distance.abs()).to(torch.float64).clamp(min=0)
    taken, filled = _within(start, length, n_in, device), _within(first, pixels, n_out, device)
    weight = weight * (taken[:, None] & filled if turned else taken & filled[:, None])
    total = weight.sum(dim=0 if turned else 1, keepdim=True).clamp(min=1)
    units = ((weight * (2 << WEIGHT_BITS) + total) / (2 * total)).floor()
    return units / (1 << WEIGHT_BITS)


def _within(start: Pixels, length: Pixels, n: Pixels, device: torch.device) -> Bool[Tensor, " place"]:
    """Which of n places are in a span."""
    place = torch.arange(n, device=device)
    return (place >= start) & (place < start + length)
