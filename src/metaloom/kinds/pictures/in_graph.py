"""metaloom.kinds.pictures.resize inside a graph, pixel for pixel, and without float64, which many runtimes lack.

The sums that resize rounds have 48 bits, float32 holds whole numbers up to 2^24. So weights and sums are written in
digits to the base 128, the products of each two digits are added up by themselves, and the carries follow at the end.
No factor of a product has more than 8 bits: a processor that multiplies matrices in bfloat16 or TF32 and adds up in
float32 gives the same.

Exact while a pixel of the result takes at most 346 pixels of a side: up to 4,844 pixels at a size of 28; beyond, a sum
may lose its last bits. Some runtimes (OpenVINO) hold whole numbers in 32 bits: here they stay below 2^31, and none is
clipped, as an open end is a number of 64 bits there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from metaloom.kinds.pictures.resize import PAPER, WEIGHT_BITS, Fit, Pixels, Span

BASE = 128  # of a digit
OF_WEIGHT, OF_ROWS = 3, 4  # digits of a weight, of 20 bits; of a sum down the rows, of those and 8 of a pixel
PLACES = OF_WEIGHT + OF_ROWS - 1  # of what is rounded
UNITS = 2 ** (2 * WEIGHT_BITS) // BASE ** (PLACES - 1)  # of the highest place in a pixel
FIRST, LAST = 2**14, 2**6  # parts of 2^20, in which a weight is divided
LARGEST = 2**23  # a divisor for which the last part stays below 2^31


def resized(
    images: UInt8[Tensor, "batch height width channel"], size: int, fit: Fit = "stretch", inverted: bool = False
) -> UInt8[Tensor, "batch {size} {size} channel"]:
    """All images of a batch at the network's size, first turned from dark to light where they are `inverted`."""
    height, width = images.shape[1:3]
    spans = [
        Span.of(side, other, size, fit, most=torch.sym_max, least=torch.sym_min)
        for side, other in ((height, width), (width, height))
    ]
    x = images.permute(0, 3, 1, 2).to(torch.float32)
    x = PAPER - x if inverted else x
    down = resize_units(spans[0], height, size, images.device)
    across = resize_units(spans[1], width, size, images.device, turned=True)
    x = _rounded(_sums(down, x, across))
    if fit == "pad":
        within = [_within(span.first, span.pixels, size, images.device) for span in spans]
        x = x + PAPER * (~(within[0][:, None] & within[1])).to(torch.float32)
    return x.clamp(0, PAPER).permute(0, 2, 3, 1).to(torch.uint8)


def resize_units(
    span: Span, n_in: Pixels, n_out: int, device: torch.device, turned: bool = False
) -> Float[Tensor, "rows columns"]:
    """metaloom.kinds.pictures.resize.resize_matrix at the place of a span, zero elsewhere, in units of 2^-20.

    Whole numbers are divided by whole numbers, in two steps: 14 bits, then 6. A turned one is made so.
    """
    start, length, first, pixels = span
    centre_in = (2 * (torch.arange(n_in, device=device) - start) + 1) * pixels
    centre_out = (2 * (torch.arange(n_out, device=device) - first) + 1) * length
    distance = centre_in[:, None] - centre_out if turned else centre_in - centre_out[:, None]
    nothing, one = (torch.tensor(number, device=device) for number in (0, 1))
    weight = torch.maximum(2 * torch.sym_max(length, pixels) - distance.abs(), nothing)
    taken, filled = _within(start, length, n_in, device), _within(first, pixels, n_out, device)
    weight = weight * (taken[:, None] & filled if turned else taken & filled[:, None])
    total = weight.sum(dim=0 if turned else 1, keepdim=True)
    total = torch.maximum(total, one)
    whole = _divided(FIRST * weight, total)
    rest, few = FIRST * weight - whole * total, _divided(total, torch.tensor(LARGEST, device=device)) + 1
    rest, total = _divided(rest, few), _divided(total, few)
    return (LAST * whole + _divided(2 * LAST * rest + total, 2 * total)).to(torch.float32)


def _divided(a: Int[Tensor, ...], b: Int[Tensor, ...]) -> Int[Tensor, ...]:
    """The whole part of a / b, neither negative: one operator of a graph, where `//` would be eight."""
    return torch.ops.prims.div(a, b.expand_as(a))


def _within(start: Pixels, length: Pixels, n: Pixels, device: torch.device) -> Bool[Tensor, " place"]:
    """Which of n places are in a span."""
    place = torch.arange(n, device=device)
    return (place >= start) & (place < start + length)


def _sums(
    down: Float[Tensor, "size height"], x: Float[Tensor, "b c height width"], across: Float[Tensor, "width size"]
) -> tuple[Float[Tensor, "b c size size"], ...]:
    """down @ x @ across, in units of 2^-40: what is to be added up at each place, from the lowest up."""
    size, none = down.shape[0], torch.zeros_like(across)
    sums = (torch.cat(_digits([down], OF_WEIGHT)) @ x).split(size, dim=2)
    rows = torch.cat(_digits(sums, OF_ROWS), dim=3)
    digits = _digits([across], OF_WEIGHT)
    placed = [[none] * place + digits + [none] * (OF_ROWS - 1 - place) for place in range(OF_ROWS)]
    return (rows @ torch.cat([torch.cat(each, dim=1) for each in placed])).split(size, dim=3)


def _digits(parts: Sequence[Tensor], count: int) -> list[Tensor]:
    """The digits of the number whose parts, from the lowest place up, are whole numbers below 2^24; the last digit is
    all that is above the others."""
    found, (rest, *above) = [], parts
    for _ in range(count - 1):
        carry = (rest / BASE).floor()
        found.append(rest - BASE * carry)
        rest = above.pop(0) + carry if above else carry
    return [*found, rest]


def _rounded(sums: Sequence[Float[Tensor, "b c size size"]]) -> Float[Tensor, "b c size size"]:
    """In whole pixels, halves to even; digits below the highest matter only where one of them is not zero."""
    *lower, pixels = _digits(sums, PLACES)
    some = torch.minimum(torch.stack(lower).sum(dim=0), torch.tensor(1.0, device=pixels.device)) / 4
    return ((pixels + some) / UNITS).round()
