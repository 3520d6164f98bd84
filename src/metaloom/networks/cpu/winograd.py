"""3×3 convolutions with a third of the multiplications.

Winograd: Arithmetic Complexity of Computations, 1980; Lavin, Gray: Fast Algorithms for Convolutional Neural
Networks, 2016 (https://arxiv.org/abs/1509.09308), section 4: F(4×4, 3×3), and F(3×3, 4×4) for the kernel's gradient.
Tiles of 6×6 pixels overlap by two; transformed, a convolution is 36 products of matrices. B, G and A are the
paper's. It rounds more than a direct convolution (2e-5 against 4e-6 on maps of unit variance), so training takes
it, and inference does not.
"""

from __future__ import annotations

import numpy as np

from metaloom.networks.cpu.blas import add_products, multiply
from metaloom.networks.cpu.kernels import jit
from metaloom.networks.cpu.lanes import WIDTH, Lanes, of_square

CACHE = 1 << 21  # bytes of transformed examples that are worked on at a time


@jit
def _sizes(x):
    """Tiles of an example, so many examples that what they are transformed to fits the cache, and rows for their tiles.

    An odd number of rows: a tile's 36 places are then spread over the cache, where a power of two between them would
    have each push out the others.
    """
    tiles = ((x.shape[1] + 3) // 4) * ((x.shape[2] + 3) // 4)
    size = min(len(x), max(1, CACHE // (x.itemsize * 36 * tiles * x.shape[3])))
    return tiles, size, size * tiles | 1


@jit
def convolve_tiles(x, tiles, y):
    """With a kernel's tiles."""
    each, size, rows = _sizes(x)
    of_input = np.empty((36, rows, x.shape[3]), x.dtype)
    products = np.empty((36, rows, y.shape[3]), x.dtype)
    for start in range(0, len(x), size):
        stop = min(start + size, len(x))
        _to_tiles(x[start:stop], of_input)
        multiply(of_input, tiles, products, (stop - start) * each)
        _from_tiles(products, y[start:stop])


@jit
def tiles_kernel_gradient(d_y, x, d_tiles):
    """Adds to d_tiles."""
    each, size, rows = _sizes(x)
    of_input = np.empty((36, rows, x.shape[3]), x.dtype)
    of_output = np.empty((36, rows, d_y.shape[3]), x.dtype)
    for start in range(0, len(x), size):
        stop = min(start + size, len(x))
        _to_tiles(x[start:stop], of_input)
        _gradient_tiles(d_y[start:stop], of_output)
        add_products(of_input, of_output, d_tiles, (stop - start) * each)


def _of_input(d0: Lanes, d1: Lanes, d2: Lanes, d3: Lanes, d4: Lanes, d5: Lanes) -> tuple[Lanes, ...]:
    """Bᵀd."""
    even, odd = d4 - 4 * d2, d3 - 4 * d1
    even_too, odd_too = d4 - d2, 2 * (d3 - d1)
    ends = 4 * d0 - 5 * d2 + d4, 4 * d1 - 5 * d3 + d5
    return ends[0], even + odd, even - odd, even_too + odd_too, even_too - odd_too, ends[1]


def _of_products(m0: Lanes, m1: Lanes, m2: Lanes, m3: Lanes, m4: Lanes, m5: Lanes) -> tuple[Lanes, ...]:
    """Aᵀm."""
    inner, outer = m1 + m2, m3 + m4
    inner_less, outer_less = m1 - m2, m3 - m4
    return m0 + inner + outer, inner_less + 2 * outer_less, inner + 4 * outer, inner_less + 8 * outer_less + m5


def _of_gradient(d0: Lanes, d1: Lanes, d2: Lanes, d3: Lanes) -> tuple[Lanes, ...]:
    """Ad."""
    even, odd = d0 + d2, d1 + d3
    even_too, odd_too = d0 + 4 * d2, 2 * d1 + 8 * d3
    return d0, even + odd, even - odd, even_too + odd_too, even_too - odd_too, d3


def _of_kernel(k0: Lanes, k1: Lanes, k2: Lanes) -> tuple[Lanes, ...]:
    """Gk."""
    even, odd = (1 / 6) * (k0 + k2), (1 / 6) * k1
    even_too, odd_too = (1 / 24) * (k0 + 4 * k2), (1 / 12) * k1
    return 0.25 * k0, -1.0 * (even + odd), odd - even, even_too + odd_too, even_too - odd_too, k2


def _of_tiles(t0: Lanes, t1: Lanes, t2: Lanes, t3: Lanes, t4: Lanes, t5: Lanes) -> tuple[Lanes, ...]:
    """Gᵀt."""
    inner, outer = (1 / 6) * (t1 + t2), (1 / 6) * (t3 + t4)
    return 0.25 * (t0 + outer) - inner, (1 / 6) * (t2 - t1) + (1 / 12) * (t3 - t4), outer - inner + t5


_input_tile, _output_tile, _gradient_tile, _kernel_tile, _kernel_of_tile = (
    of_square(_of_input, 6),
    of_square(_of_products, 6),
    of_square(_of_gradient, 4),
    of_square(_of_kernel, 3),
    of_square(_of_tiles, 6),
)


@jit
def _last(channel, channels, lanes):
    """Where a vector of channels starts: the last one reaches back into the one before it, to the same numbers."""
    return min(channel, channels - lanes)


@jit
def kernel_tiles(kernel, turned):
    """GkGᵀ of an (out, channel, 9) kernel, or of the one that leads back: turned by half, in and out exchanged.

    Returns (36, channel, out) of the kernel that is transformed.
    """
    out, channels, lanes = kernel.shape[0], kernel.shape[1], WIDTH // kernel.itemsize
    if turned:
        out, channels = channels, out
    tiles = np.empty((36, channels, out), kernel.dtype)
    numbers, places = np.empty((9, out), kernel.dtype), np.empty((36, out), kernel.dtype)
    for k in range(channels):
        for c in range(out):
            for at in range(9):
                numbers[at, c] = kernel[k, c, 8 - at] if turned else kernel[c, k, at]
        for channel in range(0, out, lanes):
            c = _last(channel, out, lanes)
            _kernel_tile(numbers, c, 3 * out, out, places, c, 6 * out, out)
        for at in range(36):
            for c in range(out):
                tiles[at, k, c] = places[at, c]
    return tiles


@jit
def kernel_of_tiles(tiles, d_kernel):
    """GᵀtG of (36, channel, out): fills an (out, channel, 9) kernel's gradient from that of its tiles."""
    channels, out, lanes = tiles.shape[1], tiles.shape[2], WIDTH // tiles.itemsize
    numbers, places = np.empty((9, out), tiles.dtype), np.empty((36, out), tiles.dtype)
    for k in range(channels):
        for at in range(36):
            for c in range(out):
                places[at, c] = tiles[at, k, c]
        for channel in range(0, out, lanes):
            c = _last(channel, out, lanes)
            _kernel_of_tile(places, c, 6 * out, out, numbers, c, 3 * out, out)
        for c in range(out):
            for at in range(9):
                d_kernel[c, k, at] = numbers[at, c]


@jit
def _inside(x, padded, margin):
    """Copy one image to within zeros."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for c in range(x.shape[2]):
                padded[i + margin, j + margin, c] = x[i, j, c]


@jit
def _to_tiles(x, tiles):
    """BᵀdB of every tile."""
    down, across, channels = (x.shape[1] + 3) // 4, (x.shape[2] + 3) // 4, x.shape[3]
    padded, lanes = np.zeros((4 * down + 2, 4 * across + 2, channels), x.dtype), WIDTH // x.itemsize
    row, plane = padded.shape[1] * channels, tiles.shape[1] * channels
    for n in range(x.shape[0]):
        _inside(x[n], padded, 1)
        for a in range(down):
            for b in range(across):
                at, to = 4 * a * row + 4 * b * channels, ((n * down + a) * across + b) * channels
                for channel in range(0, channels, lanes):
                    c = _last(channel, channels, lanes)
                    _input_tile(padded, at + c, row, channels, tiles, to + c, 6 * plane, plane)


@jit
def _gradient_tiles(d_y, tiles):
    """AdAᵀ of every tile of 4×4 gradients."""
    down, across, channels = (d_y.shape[1] + 3) // 4, (d_y.shape[2] + 3) // 4, d_y.shape[3]
    padded, lanes = np.zeros((4 * down, 4 * across, channels), d_y.dtype), WIDTH // d_y.itemsize
    row, plane = padded.shape[1] * channels, tiles.shape[1] * channels
    for n in range(d_y.shape[0]):
        _inside(d_y[n], padded, 0)
        for a in range(down):
            for b in range(across):
                at, to = 4 * a * row + 4 * b * channels, ((n * down + a) * across + b) * channels
                for channel in range(0, channels, lanes):
                    c = _last(channel, channels, lanes)
                    _gradient_tile(padded, at + c, row, channels, tiles, to + c, 6 * plane, plane)


@jit
def _from_tiles(products, y):
    """AᵀmA of every tile; what lies beyond the map is left out."""
    height, width, channels = y.shape[1:]
    down, across, lanes = (height + 3) // 4, (width + 3) // 4, WIDTH // y.itemsize
    row, plane = width * channels, products.shape[1] * channels
    whole = np.empty((4, 4, channels), y.dtype)
    for n in range(y.shape[0]):
        for a in range(down):
            for b in range(across):
                at = ((n * down + a) * across + b) * channels
                to, inside = (n * height + 4 * a) * row + 4 * b * channels, 4 * a + 4 <= height and 4 * b + 4 <= width
                for channel in range(0, channels, lanes):
                    c = _last(channel, channels, lanes)
                    if inside:
                        _output_tile(products, at + c, 6 * plane, plane, y, to + c, row, channels)
                    else:
                        _output_tile(products, at + c, 6 * plane, plane, whole, c, 4 * channels, channels)
                if not inside:
                    _upper_left(whole, y[n, 4 * a :, 4 * b :])


@jit
def _upper_left(whole, y):
    """As much of a tile as there is of the map."""
    for i in range(min(4, y.shape[0])):
        for j in range(min(4, y.shape[1])):
            for c in range(y.shape[2]):
                y[i, j, c] = whole[i, j, c]
