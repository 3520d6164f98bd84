"""Antialiased bilinear resizing, exact to the last bit on every processor.

The triangle filter's weights are rounded to multiples of 2^-20. Then every product and sum of the two matrix
multiplications is a whole multiple of 2^-40 below 2^9, which float64 holds exactly: neither the order of the
additions nor the processor's vector unit can change a pixel, and the data set has the same hash everywhere.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float64, UInt8

WEIGHT_BITS = 20
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


def resize(
    images: UInt8[np.ndarray, "image height width channel"], size: int
) -> UInt8[np.ndarray, "image {size} {size} channel"]:
    """Resize to a square of `size` pixels: round(clip(A_height @ image @ A_width^T)), halves to even."""
    if images.shape[1:3] == (size, size):
        return images
    return np.stack([_resize_one(image, size) for image in images])


def _resize_one(image: np.ndarray, size: int) -> np.ndarray:
    height, width, channels = image.shape
    down, across = resize_matrix(height, size), resize_matrix(width, size).T
    strip = max(1, _STRIP_BYTES // (8 * height * channels))  # columns at a time: a big photo stays small in memory
    rows = np.empty((channels, size, width))
    for start in range(0, width, strip):
        part = image[:, start : start + strip].transpose(2, 0, 1).astype(np.float64)
        rows[:, :, start : start + strip] = down @ part
    pixels = np.rint(np.clip(rows @ across, 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
