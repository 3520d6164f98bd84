"""3×3 convolutions with a third of the multiplications.

Winograd: Arithmetic Complexity of Computations, 1980; Lavin, Gray: Fast Algorithms for Convolutional Neural
Networks, 2016 (https://arxiv.org/abs/1509.09308), section 4: F(4×4, 3×3), and F(3×3, 4×4) for the kernel's gradient.
Tiles of 6×6 pixels overlap by two; transformed, a convolution is 36 products of matrices. B, G and A are the
paper's. It rounds more than a direct convolution (2e-5 against 4e-6 on maps of unit variance), so training takes
it, and inference does not.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.cpu.kernels import jit
from metaloom.networks.cpu.parts import padded, space

TILE = 4  # pixels of a result, a side
CACHE = 2 << 20  # bytes of transformed examples that are worked on at a time
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_KERNEL = torch.tensor(np.kron(_G, _G))  # (36, 9)

Part = Float[Tensor, "example channel height width"]
Result = Float[Tensor, "example out height width"]
Tiles = Float[Tensor, "36 tile channel"]


def kernel_tiles(kernel: Float[Tensor, "out channel 3 3"]) -> Float[Tensor, "36 channel out"]:
    """GgGᵀ."""
    return _transformed(kernel.permute(2, 3, 1, 0))


def turned_kernel_tiles(kernel: Float[Tensor, "out channel 3 3"]) -> Float[Tensor, "36 out channel"]:
    """The same of the kernel that takes a gradient back to the input: turned by half, in and out exchanged."""
    return _transformed(kernel.flip(2, 3).permute(2, 3, 0, 1))


def _transformed(kernel: Float[Tensor, "3 3 one other"]) -> Float[Tensor, "36 one other"]:
    return (_KERNEL.to(kernel.dtype) @ kernel.reshape(9, -1)).unflatten(1, kernel.shape[2:])


def convolve(x: Part, tiles: Float[Tensor, "36 channel out"]) -> Result:
    """The convolution of channels-last x with a kernel that `kernel_tiles` made."""
    shape = (len(x), tiles.shape[2], *x.shape[2:])
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    for part in _slices(x):
        of_input = _input_tiles(x[part])
        products = torch.bmm(of_input, tiles, out=space("products", x, *of_input.shape[:2], shape[1]))
        _from_tiles(products.numpy(), y[part].permute(0, 2, 3, 1).numpy())
    return y


def kernel_gradient(d_y: Result, x: Part) -> Float[Tensor, "out channel 3 3"]:
    products = torch.zeros(36, x.shape[1], d_y.shape[1], dtype=x.dtype)
    for part in _slices(x):
        of_input = _input_tiles(x[part])
        of_output = space("products", x, *of_input.shape[:2], d_y.shape[1])
        _gradient_tiles(padded(d_y[part], TILE), of_output.numpy())
        products.baddbmm_(of_input.mT, of_output)
    kernel = _KERNEL.T.to(x.dtype) @ products.flatten(1)
    return kernel.view(3, 3, x.shape[1], d_y.shape[1]).permute(3, 2, 0, 1)


def _slices(x: Part) -> list[slice]:
    """So many examples that what they are transformed to fits the cache."""
    size = max(1, CACHE // (4 * 36 * _tiles(x) * x.shape[1]))
    return [slice(start, start + size) for start in range(0, len(x), size)]


def _input_tiles(x: Part) -> Tiles:
    tiles = space("tiles", x, 36, len(x) * _tiles(x), x.shape[1])
    _to_tiles(padded(x, TILE), tiles.numpy())
    return tiles


def _tiles(x: Part) -> int:
    """Tiles of one example."""
    return -(-x.shape[2] // TILE) * -(-x.shape[3] // TILE)


@jit
def _to_tiles(x, tiles):
    """BᵀdB of every tile, columns first."""
    two, four, five = x.dtype.type(2), x.dtype.type(4), x.dtype.type(5)
    down, across, channels = (x.shape[1] - 2) // 4, (x.shape[2] - 2) // 4, x.shape[3]
    half = np.empty((6, 6, channels), x.dtype)
    for n in range(x.shape[0]):
        for a in range(down):
            for b in range(across):
                tile = (n * down + a) * across + b
                for j in range(6):
                    y, z = 4 * a, 4 * b + j
                    for c in range(channels):
                        d0, d1, d2 = x[n, y, z, c], x[n, y + 1, z, c], x[n, y + 2, z, c]
                        d3, d4, d5 = x[n, y + 3, z, c], x[n, y + 4, z, c], x[n, y + 5, z, c]
                        half[0, j, c] = four * d0 - five * d2 + d4
                        half[1, j, c] = (d4 - four * d2) + (d3 - four * d1)
                        half[2, j, c] = (d4 - four * d2) - (d3 - four * d1)
                        half[3, j, c] = (d4 - d2) + two * (d3 - d1)
                        half[4, j, c] = (d4 - d2) - two * (d3 - d1)
                        half[5, j, c] = four * d1 - five * d3 + d5
                for i in range(6):
                    for c in range(channels):
                        d0, d1, d2 = half[i, 0, c], half[i, 1, c], half[i, 2, c]
                        d3, d4, d5 = half[i, 3, c], half[i, 4, c], half[i, 5, c]
                        tiles[6 * i, tile, c] = four * d0 - five * d2 + d4
                        tiles[6 * i + 1, tile, c] = (d4 - four * d2) + (d3 - four * d1)
                        tiles[6 * i + 2, tile, c] = (d4 - four * d2) - (d3 - four * d1)
                        tiles[6 * i + 3, tile, c] = (d4 - d2) + two * (d3 - d1)
                        tiles[6 * i + 4, tile, c] = (d4 - d2) - two * (d3 - d1)
                        tiles[6 * i + 5, tile, c] = four * d1 - five * d3 + d5


@jit
def _from_tiles(products, y):
    """AᵀmA of every tile, columns first; what lies beyond the map is left out."""
    two, four, eight = y.dtype.type(2), y.dtype.type(4), y.dtype.type(8)
    height, width, channels = y.shape[1:]
    down, across = (height + 3) // 4, (width + 3) // 4
    half = np.empty((4, 6, channels), y.dtype)
    row = np.empty((4, channels), y.dtype)
    for n in range(y.shape[0]):
        for a in range(down):
            for b in range(across):
                tile = (n * down + a) * across + b
                for j in range(6):
                    for c in range(channels):
                        m1, m2 = products[6 + j, tile, c], products[12 + j, tile, c]
                        m3, m4 = products[18 + j, tile, c], products[24 + j, tile, c]
                        half[0, j, c] = products[j, tile, c] + (m1 + m2) + (m3 + m4)
                        half[1, j, c] = (m1 - m2) + two * (m3 - m4)
                        half[2, j, c] = (m1 + m2) + four * (m3 + m4)
                        half[3, j, c] = (m1 - m2) + eight * (m3 - m4) + products[30 + j, tile, c]
                for i in range(min(4, height - 4 * a)):
                    for c in range(channels):
                        m1, m2, m3, m4 = half[i, 1, c], half[i, 2, c], half[i, 3, c], half[i, 4, c]
                        row[0, c] = half[i, 0, c] + (m1 + m2) + (m3 + m4)
                        row[1, c] = (m1 - m2) + two * (m3 - m4)
                        row[2, c] = (m1 + m2) + four * (m3 + m4)
                        row[3, c] = (m1 - m2) + eight * (m3 - m4) + half[i, 5, c]
                    for j in range(min(4, width - 4 * b)):
                        for c in range(channels):
                            y[n, 4 * a + i, 4 * b + j, c] = row[j, c]


@jit
def _gradient_tiles(d_y, tiles):
    """AdAᵀ of every tile of 4×4 gradients, columns first."""
    two, four, eight = d_y.dtype.type(2), d_y.dtype.type(4), d_y.dtype.type(8)
    down, across, channels = (d_y.shape[1] - 2) // 4, (d_y.shape[2] - 2) // 4, d_y.shape[3]
    half = np.empty((6, 4, channels), d_y.dtype)
    for n in range(d_y.shape[0]):
        for a in range(down):
            for b in range(across):
                tile = (n * down + a) * across + b
                for j in range(4):
                    y, z = 4 * a + 1, 4 * b + j + 1
                    for c in range(channels):
                        d0, d1 = d_y[n, y, z, c], d_y[n, y + 1, z, c]
                        d2, d3 = d_y[n, y + 2, z, c], d_y[n, y + 3, z, c]
                        half[0, j, c] = d0
                        half[1, j, c] = (d0 + d2) + (d1 + d3)
                        half[2, j, c] = (d0 + d2) - (d1 + d3)
                        half[3, j, c] = (d0 + four * d2) + (two * d1 + eight * d3)
                        half[4, j, c] = (d0 + four * d2) - (two * d1 + eight * d3)
                        half[5, j, c] = d3
                for i in range(6):
                    for c in range(channels):
                        d0, d1, d2, d3 = half[i, 0, c], half[i, 1, c], half[i, 2, c], half[i, 3, c]
                        tiles[6 * i, tile, c] = d0
                        tiles[6 * i + 1, tile, c] = (d0 + d2) + (d1 + d3)
                        tiles[6 * i + 2, tile, c] = (d0 + d2) - (d1 + d3)
                        tiles[6 * i + 3, tile, c] = (d0 + four * d2) + (two * d1 + eight * d3)
                        tiles[6 * i + 4, tile, c] = (d0 + four * d2) - (two * d1 + eight * d3)
                        tiles[6 * i + 5, tile, c] = d3
