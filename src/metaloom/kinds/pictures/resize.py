"""Antialiased bilinear resizing, exact to the last bit on every processor.

The triangle filter's weights are rounded to multiples of 2^-20. Then every product and sum of the two matrix
multiplications is a whole multiple of 2^-40 below 2^9, which float64 holds exactly: neither the order of the
additions nor the processor's vector unit can change a pixel, and the data set has the same hash everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

WEIGHT_BITS = 20
PAPER = 255  # what stands beside a picture that is padded: white, as transparency is
Fit = Literal["pad", "crop", "stretch"]
Pixels = Any  # a whole number, or one of torch's symbols while a graph is traced
_STRIP_BYTES = 32 * 2**20


@functools.lru_cache(maxsize=256)
def resize_matrix(n_in: int, n_out: int) -> Float64[np.ndarray, "{n_out} {n_in}"]:
    """Weights of the input pixels (columns) in every output pixel (rows); rows sum to 1 within n_in * 2^-21.

    weight[o, i] = max(0, 1 - |(i + 1/2) - (o + 1/2) s| / max(s, 1)) with s = n_in / n_out, rows normalised;
    here in whole numbers, over the common denominator.
    """
    distance = np.abs((2 * np.arange(n_in) + 1) * n_out - (2 * np.arange(n_out)[:, None] + 1) * n_in)
    weight = np.maximum(0, 2 * max(n_in, n_out) - distance)
    total = weight.sum(axis=1, keepdims=True)
    matrix = ((weight << (WEIGHT_BITS + 1)) + total) // (2 * total) / 2.0**WEIGHT_BITS
    matrix.flags.writeable = False
    return matrix


class Span(NamedTuple):
    """One side of a picture in the square: pixels start to start + length become pixels first to first + pixels."""

    start: Pixels
    length: Pixels
    first: Pixels
    pixels: Pixels

    @classmethod
    def of(
        cls,
        side: Pixels,
        other: Pixels,
        size: int,
        fit: Fit,
        most: Callable[[Pixels, Pixels], Pixels] = max,
        least: Callable[[Pixels, Pixels], Pixels] = min,
    ) -> Span:
        """The span of one side, given the length of the other one too.

        Args:
            side: length of this side of the picture, in pixels.
            other: length of the other side.
            size: side of the square.
            fit: see `resize`.
            most: the greater of two numbers; another function than `max` where they are symbols of a graph.
            least: the smaller of two numbers.
        """
        if fit == "pad":
            longest = most(side, other)
            pixels = most((2 * side * size + longest) // (2 * longest), 1)
            return cls(0, side, (size - pixels) // 2, pixels)
        if fit == "crop":
            length = least(side, other)
            return cls((side - length) // 2, length, 0, size)
        return cls(0, side, 0, size)

    @property
    def taken(self) -> slice:
        """Which of the picture's pixels are taken."""
        return slice(self.start, self.start + self.length)

    @property
    def filled(self) -> slice:
        """Which of the square's pixels they fill."""
        return slice(self.first, self.first + self.pixels)


def resize(
    images: UInt8[np.ndarray, "image height width channel"], size: int, fit: Fit = "stretch"
) -> UInt8[np.ndarray, "image {size} {size} channel"]:
    """Resize to a square of `size` pixels: round(clip(A_height @ image @ A_width^T)), halves to even.

    Args:
        images: of any height and width.
        size: of the square.
        fit: "pad": the whole picture as it is, in the middle of white paper; "crop": the square in its middle;
            "stretch": the whole picture, wider or higher than it is.
    """
    height, width = images.shape[1:3]
    if (height, width) == (size, size):
        return images
    rows, columns = Span.of(height, width, size, fit), Span.of(width, height, size, fit)
    result = np.full((len(images), size, size, images.shape[3]), PAPER, np.uint8)
    for image, square in zip(images, result, strict=True):
        square[rows.filled, columns.filled] = scaled(image[rows.taken, columns.taken], rows.pixels, columns.pixels)
    return result


def scaled(image: np.ndarray, size_down: int, size_across: int) -> np.ndarray:
    """One picture (height, width, channel) at another height and width."""
    height, width, channels = image.shape
    down, across = resize_matrix(height, size_down), resize_matrix(width, size_across).T
    strip = max(1, _STRIP_BYTES // (8 * height * channels))  # columns at a time: a big photo stays small in memory
    rows = np.empty((channels, size_down, width))
    for start in range(0, width, strip):
        part = image[:, start : start + strip].transpose(2, 0, 1).astype(np.float64)
        rows[:, :, start : start + strip] = down @ part
    return np.rint(np.clip(rows @ across, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
