"""The passes of a block over one part of the examples, all in one call of machine code.

Between two calls a thread has to win Python's lock again, which takes longer than many a pass. Arrays are (example,
row, column, channel). Without the affine map, `activated` is x.
"""

from __future__ import annotations

from metaloom.networks.cpu.direct import convolve_directly, direct_kernel_gradient
from metaloom.networks.cpu.kernels import activate, activate_gradient, jit, pixel_sums, pool, unpool
from metaloom.networks.cpu.winograd import convolve_tiles, tiles_kernel_gradient


@jit
def forward(x, affine, gain, bias, kernel, tiled, sums, activated, y, maps, place, total, squares):
    """Fills what follows `sums`."""
    if affine:
        activate(_flat(x), gain, bias, _flat(activated))
    if tiled:
        convolve_tiles(activated, kernel, y)
    else:
        convolve_directly(activated, kernel, y)
    if sums:
        pixel_sums(_flat(y), total, squares)
    pool(y, maps, place)


@jit
def backward(x, affine, gain, bias, tiled, activated, y, place, d_maps, d_total, d_squares, d_y, d_kernel):
    """Fills `activated` and d_y; adds to the kernel's gradient."""
    if affine:
        activate(_flat(x), gain, bias, _flat(activated))
    unpool(y, d_total, d_squares, d_maps, place, d_y)
    if tiled:
        tiles_kernel_gradient(d_y, activated, d_kernel)
    else:
        direct_kernel_gradient(d_y, activated, d_kernel)


@jit
def backward_to_input(x, affine, gain, turned, tiled, activated, d_y, d_activated, d_x, d_gain, d_bias):
    """Fills the gradients; without the affine map, d_activated is d_x."""
    if tiled:
        convolve_tiles(d_y, turned, d_activated)
    else:
        convolve_directly(d_y, turned, d_activated)
    if affine:
        activate_gradient(_flat(d_activated), _flat(activated), _flat(x), gain, _flat(d_x), d_gain, d_bias)


@jit
def _flat(x):
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])


@jit
def convolve(x, kernel, tiled, y):
    """A 3×3 convolution, by tiles where the kernels come in them."""
    if tiled:
        convolve_tiles(x, kernel, y)
    else:
        convolve_directly(x, kernel, y)


@jit
def kernel_gradient(d_y, x, tiled, d_kernel):
    """Adds to d_kernel."""
    if tiled:
        tiles_kernel_gradient(d_y, x, d_kernel)
    else:
        direct_kernel_gradient(d_y, x, d_kernel)
