"""The passes of a block over one part of the examples, all in one call of machine code.

Between two calls a thread has to win Python's lock again, which takes longer than many a pass. Arrays are (example,
row, column, channel). Without the affine map, `activated` is x.
"""

from __future__ import annotations

import numpy as np

from metaloom.networks.cpu.direct import convolve_directly, direct_kernel_gradient
from metaloom.networks.cpu.kernels import activate, activate_gradient, jit, pixel_sums, pool, unpool
from metaloom.networks.cpu.winograd import convolve_tiles, kernel_of_tiles, kernel_tiles, tiles_kernel_gradient

# How a kernel comes: (channel, 9, out) for plain loops, (36, channel, out) of tiles, or (out, channel, 9), of which the
# pass makes tiles itself, those of the kernel or of the one that leads back.
LOOPS, TILES, OWN, LEADS_BACK = range(4)


@jit
def forward(x, affine, gain, bias, kernel, form, sums, activated, y, maps, place, total, squares):
    """Fills what follows `sums`."""
    if affine:
        activate(_flat(x), gain, bias, _flat(activated))
    convolve(activated, kernel, form, y)
    if sums:
        pixel_sums(_flat(y), total, squares)
    pool(y, maps, place)


@jit
def backward(x, affine, gain, bias, form, activated, y, place, d_maps, d_total, d_squares, d_y, d_kernel):
    """Fills `activated` and d_y; the kernel's gradient as `kernel_gradient` does."""
    if affine:
        activate(_flat(x), gain, bias, _flat(activated))
    unpool(y, d_total, d_squares, d_maps, place, d_y)
    kernel_gradient(d_y, activated, form, d_kernel)


@jit
def backward_to_input(x, affine, gain, turned, form, activated, d_y, d_activated, d_x, d_gain, d_bias):
    """Fills the gradients; without the affine map, d_activated is d_x."""
    convolve(d_y, turned, form, d_activated)
    if affine:
        activate_gradient(_flat(d_activated), _flat(activated), _flat(x), gain, _flat(d_x), d_gain, d_bias)


@jit
def _flat(x):
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])


@jit
def convolve(x, kernel, form, y):
    """A 3×3 convolution with a kernel that comes in one of the forms."""
    if form == LOOPS:
        convolve_directly(x, kernel, y)
    elif form == TILES:
        convolve_tiles(x, kernel, y)
    else:
        convolve_tiles(x, kernel_tiles(kernel, form == LEADS_BACK), y)


@jit
def kernel_gradient(d_y, x, form, d_kernel):
    """Adds to d_kernel; fills it where a pass makes the tiles itself."""
    if form == LOOPS:
        direct_kernel_gradient(d_y, x, d_kernel)
    elif form == TILES:
        tiles_kernel_gradient(d_y, x, d_kernel)
    else:
        tiles = np.zeros((36, x.shape[3], d_y.shape[3]), x.dtype)
        tiles_kernel_gradient(d_y, x, tiles)
        kernel_of_tiles(tiles, d_kernel)
