"""The first block, in training: the map before pooling is larger than all else, and is never there as a whole.

Its few input channels make that cheap. Forward, two rows at a time are convolved, summed and pooled. Backward, the
gradient of an image's kernel has two sources. Each pooled pixel hands its gradient to the patch of its maximum. And the
sums over pixels are linear and quadratic in the kernel W: with the patches p of the image and y = W·p, Σy = W·Σp and
Σy² = W·(Σppᵀ)·Wᵀ for each output channel, so their gradients need the patches' moments Σp and Σppᵀ alone.
"""

from __future__ import annotations

import numpy as np

from metaloom.networks.cpu.direct import convolve_rows, inside, padded_like
from metaloom.networks.cpu.kernels import jit, pixel_sums, pool

CHANNELS = 4  # of the input, up to which it is worth it: the moments grow with their square


@jit
def convolve_and_pool(x, kernel, with_sums, maps, place, total, squares):
    """What convolving, `pixel_sums` (if they are wanted) and `pool` do."""
    columns, out = x.shape[2], kernel.shape[2]
    padded, y, sums = padded_like(x), np.empty((2 * columns, out), x.dtype), np.empty((2, 1, out), x.dtype)
    for n in range(x.shape[0]):
        inside(padded, x, n)
        of_maps, of_place = maps[n], place[n]
        for i in range(0, x.shape[1], 2):
            convolve_rows(padded, i, kernel, y[:columns], y[columns:])
            if with_sums:
                pixel_sums(y[: columns * min(2, x.shape[1] - i)].reshape(1, -1, out), sums[0], sums[1])
                for c in range(out):
                    total[n, c] = sums[0, 0, c] if i == 0 else total[n, c] + sums[0, 0, c]
                    squares[n, c] = sums[1, 0, c] if i == 0 else squares[n, c] + sums[1, 0, c]
            at = slice(i // 2, i // 2 + 1)
            pool(y.reshape(1, 2, columns, out), _with_axis(of_maps[at]), _with_axis(of_place[at]))


@jit
def _with_axis(x):
    return x.reshape(1, *x.shape)


@jit
def kernel_gradient(x, kernel, place, d_maps, d_total, d_squares, d_kernel):
    """Adds to d_kernel, from the gradients of the maxima and of the sums."""
    padded, two = padded_like(x), x.dtype.type(2)
    size = 9 * x.shape[3]
    first, second = np.empty(size, x.dtype), np.empty((size, size), x.dtype)
    for n in range(x.shape[0]):
        inside(padded, x, n)
        for i in range(d_maps.shape[1]):
            for j in range(d_maps.shape[2]):
                for k in range(x.shape[3]):
                    _of_maxima(padded, 2 * i, 2 * j, k, d_maps[n, i, j], place[n, i, j], d_kernel[k])
        _moments(padded, x.shape[1], first, second)
        for a in range(size):
            for c in range(kernel.shape[2]):
                d_kernel[a // 9, a % 9, c] += first[a] * d_total[n, c]
            for b in range(size):
                factor = two * second[a, b]
                for c in range(kernel.shape[2]):
                    d_kernel[a // 9, a % 9, c] += factor * kernel[b // 9, b % 9, c] * d_squares[n, c]


@jit
def _of_maxima(padded, i, j, k, d_maps, place, d_kernel):
    """Add what one pooled pixel gives to the kernels' gradient: its own gradient times the patch of the one of its four
    pixels that was the maximum."""
    zero = padded.dtype.type(0)
    a0, a1, a2, a3 = padded[i, j, k], padded[i, j + 1, k], padded[i, j + 2, k], padded[i, j + 3, k]
    b0, b1, b2, b3 = padded[i + 1, j, k], padded[i + 1, j + 1, k], padded[i + 1, j + 2, k], padded[i + 1, j + 3, k]
    c0, c1, c2, c3 = padded[i + 2, j, k], padded[i + 2, j + 1, k], padded[i + 2, j + 2, k], padded[i + 2, j + 3, k]
    d0, d1, d2, d3 = padded[i + 3, j, k], padded[i + 3, j + 1, k], padded[i + 3, j + 2, k], padded[i + 3, j + 3, k]
    for c in range(d_maps.shape[0]):
        d, at = d_maps[c], place[c]
        w0, w1 = d if at == 0 else zero, d if at == 1 else zero
        w2, w3 = d if at == 2 else zero, d if at == 3 else zero
        d_kernel[0, c] += a0 * w0 + a1 * w1 + b0 * w2 + b1 * w3
        d_kernel[1, c] += a1 * w0 + a2 * w1 + b1 * w2 + b2 * w3
        d_kernel[2, c] += a2 * w0 + a3 * w1 + b2 * w2 + b3 * w3
        d_kernel[3, c] += b0 * w0 + b1 * w1 + c0 * w2 + c1 * w3
        d_kernel[4, c] += b1 * w0 + b2 * w1 + c1 * w2 + c2 * w3
        d_kernel[5, c] += b2 * w0 + b3 * w1 + c2 * w2 + c3 * w3
        d_kernel[6, c] += c0 * w0 + c1 * w1 + d0 * w2 + d1 * w3
        d_kernel[7, c] += c1 * w0 + c2 * w1 + d1 * w2 + d2 * w3
        d_kernel[8, c] += c2 * w0 + c3 * w1 + d2 * w2 + d3 * w3


@jit
def _moments(padded, rows, first, second):
    """Σp and Σppᵀ over the 3×3 patches of one image; a column has its own sum until the end, so that lanes do."""
    line = np.empty(padded.shape[1] - 2, padded.dtype)
    for a in range(first.shape[0]):
        ka, ia, ja = a // 9, a % 9 // 3, a % 3
        line[:] = 0
        for i in range(rows):
            for j in range(line.shape[0]):
                line[j] += padded[i + ia, j + ja, ka]
        first[a] = line.sum()
        for b in range(a + 1):
            kb, ib, jb = b // 9, b % 9 // 3, b % 3
            line[:] = 0
            for i in range(rows):
                for j in range(line.shape[0]):
                    line[j] += padded[i + ia, j + ja, ka] * padded[i + ib, j + jb, kb]
            second[a, b] = second[b, a] = line.sum()
