"""3×3 convolutions with few channels, as plain loops over the pixels.

Their kernel is (channel, 9, out).
"""

from __future__ import annotations

import numpy as np

from metaloom.networks.cpu.kernels import jit


@jit
def convolve_directly(x, kernel, y):
    """A 3×3 convolution of few channels, pixel by pixel."""
    padded, beyond = padded_like(x), np.empty(y.shape[2:], y.dtype)
    for n in range(x.shape[0]):
        inside(padded, x, n)
        for i in range(0, y.shape[1], 2):
            convolve_rows(padded, i, kernel, y[n, i], y[n, i + 1] if i + 1 < y.shape[1] else beyond)


@jit
def direct_kernel_gradient(d_y, x, d_kernel):
    """Adds to d_kernel."""
    padded = padded_like(x)
    for n in range(x.shape[0]):
        inside(padded, x, n)
        for i in range(d_y.shape[1]):
            for j in range(d_y.shape[2]):
                for k in range(d_kernel.shape[0]):
                    for at in range(9):
                        pixel = padded[i + at // 3, j + at % 3, k]
                        for c in range(d_y.shape[3]):
                            d_kernel[k, at, c] += pixel * d_y[n, i, j, c]


@jit
def padded_like(x):
    """Zeros around the place of one example, which has an even number of rows."""
    return np.zeros((x.shape[1] + x.shape[1] % 2 + 2, x.shape[2] + 2, x.shape[3]), x.dtype)


@jit
def inside(padded, x, n):
    """Copy examples into the middle of padded ones."""
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            for c in range(x.shape[3]):
                padded[i + 1, j + 1, c] = x[n, i, j, c]


@jit
def convolve_rows(padded, i, kernel, upper, lower):
    """Rows i and i + 1 of the result: of a kernel's nine numbers each serves two pixels while it is at hand."""
    zero = padded.dtype.type(0)
    for j in range(upper.shape[0]):
        for c in range(upper.shape[1]):
            upper[j, c] = lower[j, c] = zero
        for k in range(kernel.shape[0]):
            a0, a1, a2 = padded[i, j, k], padded[i, j + 1, k], padded[i, j + 2, k]
            b0, b1, b2 = padded[i + 1, j, k], padded[i + 1, j + 1, k], padded[i + 1, j + 2, k]
            c0, c1, c2 = padded[i + 2, j, k], padded[i + 2, j + 1, k], padded[i + 2, j + 2, k]
            d0, d1, d2 = padded[i + 3, j, k], padded[i + 3, j + 1, k], padded[i + 3, j + 2, k]
            for c in range(upper.shape[1]):
                w0, w1, w2 = kernel[k, 0, c], kernel[k, 1, c], kernel[k, 2, c]
                w3, w4, w5 = kernel[k, 3, c], kernel[k, 4, c], kernel[k, 5, c]
                w6, w7, w8 = kernel[k, 6, c], kernel[k, 7, c], kernel[k, 8, c]
                a, b, c_ = a0 * w0 + a1 * w1 + a2 * w2, b0 * w3 + b1 * w4 + b2 * w5, c0 * w6 + c1 * w7 + c2 * w8
                upper[j, c] += a + b + c_
                a, b, c_ = b0 * w0 + b1 * w1 + b2 * w2, c0 * w3 + c1 * w4 + c2 * w5, d0 * w6 + d1 * w7 + d2 * w8
                lower[j, c] += a + b + c_
