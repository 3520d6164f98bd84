"""3×3 convolutions with few channels, as plain loops over the pixels.

Their kernel is (channel, 9, out).
"""

from __future__ import annotations

import numpy as np

from metaloom.networks.cpu.kernels import jit


@jit
def _inside(padded, x, n):
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            for c in range(x.shape[3]):
                padded[i + 1, j + 1, c] = x[n, i, j, c]


@jit
def convolve_directly(x, kernel, y):
    zero = x.dtype.type(0)
    padded = np.zeros((x.shape[1] + 2, x.shape[2] + 2, x.shape[3]), x.dtype)
    for n in range(x.shape[0]):
        _inside(padded, x, n)
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for c in range(y.shape[3]):
                    y[n, i, j, c] = zero
                for k in range(kernel.shape[0]):
                    x0, x1, x2 = padded[i, j, k], padded[i, j + 1, k], padded[i, j + 2, k]
                    x3, x4, x5 = padded[i + 1, j, k], padded[i + 1, j + 1, k], padded[i + 1, j + 2, k]
                    x6, x7, x8 = padded[i + 2, j, k], padded[i + 2, j + 1, k], padded[i + 2, j + 2, k]
                    for c in range(y.shape[3]):
                        upper = x0 * kernel[k, 0, c] + x1 * kernel[k, 1, c] + x2 * kernel[k, 2, c]
                        middle = x3 * kernel[k, 3, c] + x4 * kernel[k, 4, c] + x5 * kernel[k, 5, c]
                        lower = x6 * kernel[k, 6, c] + x7 * kernel[k, 7, c] + x8 * kernel[k, 8, c]
                        y[n, i, j, c] += upper + middle + lower


@jit
def direct_kernel_gradient(d_y, x, d_kernel):
    """Adds to d_kernel."""
    padded = np.zeros((x.shape[1] + 2, x.shape[2] + 2, x.shape[3]), x.dtype)
    for n in range(x.shape[0]):
        _inside(padded, x, n)
        for i in range(d_y.shape[1]):
            for j in range(d_y.shape[2]):
                for k in range(d_kernel.shape[0]):
                    for at in range(9):
                        pixel = padded[i + at // 3, j + at % 3, k]
                        for c in range(d_y.shape[3]):
                            d_kernel[k, at, c] += pixel * d_y[n, i, j, c]
