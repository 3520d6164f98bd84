"""The passes of a block over one part of the examples, all in one call of machine code.

Between two calls a thread has to win Python's lock again, which takes longer than many a pass. Arrays are (example,
row, column, channel). Without the affine map, `activated` is x.
"""

from __future__ import annotations

from metaloom.networks.cpu.convolution import convolve, kernel_gradient
from metaloom.networks.cpu.kernels import activate, activate_gradient, jit, pixel_sums, pool, unpool


@jit
def forward(x, affine, gain, bias, kernel, tiled, sums, activated, y, maps, place, total, squares):
    """Fills what follows `sums`."""
    if affine:
        activate(_flat(x), gain, bias, _flat(activated))
    convolve(activated, kernel, tiled, y)
    if sums:
        pixel_sums(_flat(y), total, squares)
    pool(y, maps, place)


@jit
def backward(
    x, affine, gain, bias, kernel, tiled, again, activated, y, place, d_maps, d_total, d_squares, d_y, d_kernel
):
    """Fills `activated`, y where it is computed `again`, and d_y, and adds to the kernel's gradient."""
    if affine:
        activate(_flat(x), gain, bias, _flat(activated))
    if again:
        convolve(activated, kernel, tiled, y)
    unpool(y, d_total, d_squares, d_maps, place, d_y)
    kernel_gradient(d_y, activated, tiled, d_kernel)


@jit
def backward_to_input(x, affine, gain, turned, tiled, activated, d_y, d_activated, d_x, d_gain, d_bias):
    """Fills the gradients; without the affine map, d_activated is d_x."""
    convolve(d_y, turned, tiled, d_activated)
    if affine:
        activate_gradient(_flat(d_activated), _flat(activated), _flat(x), gain, _flat(d_x), d_gain, d_bias)


@jit
def _flat(x):
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
