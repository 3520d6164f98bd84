"""Single passes over maps in machine code (numba), so that what lies between two convolutions costs little.

Arrays are numpy views of maps that lie channels-last, (example, pixel, channel) or (example, row, column, channel);
sums, gains and biases are (example, channel). Constants have the arrays' type, or numba would work in float64. A
kernel keeps to one thread and lets go of Python's lock: work in parallel is its callers' matter. `place` says which
pixel of a 2×2 window was its (first) greatest: 0 and 1 in the upper row, 2 and 3 in the lower.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

_SOURCES = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))


OPTIONS = {"nogil": True, "cache": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy"}


def jit(function: Callable[..., Any]) -> Any:
    """Machine code, kept on disk; without what a type-checking import hook has wrapped around the function."""
    return njit(named_by_sources(inspect.unwrap(function)), **OPTIONS)


def named_by_sources(function: Callable[..., Any]) -> Callable[..., Any]:
    """Its machine code is then kept under a name that changes with the code of this folder.

    numba looks at one file alone, and a function holds what it calls from others.
    """
    if "-" not in function.__qualname__:
        function.__qualname__ += f"-{_SOURCES.hexdigest()[:8]}"
    return function


@jit
def activate(x, gain, bias, out):
    """out = relu(x · gain + bias)."""
    zero = x.dtype.type(0)
    for n in range(x.shape[0]):
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                out[n, p, c] = max(x[n, p, c] * gain[n, c] + bias[n, c], zero)


@jit
def activate_gradient(d_out, out, x, gain, d_x, d_gain, d_bias):
    """The gradients of x, gain and bias from that of `out`."""
    zero, sums = x.dtype.type(0), np.empty((2, x.shape[2]), x.dtype)
    for n in range(x.shape[0]):
        for c in range(sums.shape[-1]):
            sums[0, c] = sums[1, c] = zero
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                d = d_out[n, p, c] if out[n, p, c] > 0 else zero
                d_x[n, p, c] = d * gain[n, c]
                sums[0, c] += d * x[n, p, c]
                sums[1, c] += d
        for c in range(x.shape[2]):
            d_gain[n, c], d_bias[n, c] = sums[0, c], sums[1, c]


@jit
def activate_second(to_x, to_gain, to_bias, d_out, out, x, gain, to_d_out, d_x, d_gain):
    """What reaches d_out, x and gain through the three gradients of `activate_gradient`, from what reaches them."""
    zero, sums = x.dtype.type(0), np.empty(x.shape[2], x.dtype)
    for n in range(x.shape[0]):
        for c in range(sums.shape[-1]):
            sums[c] = zero
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                through = to_x[n, p, c] * gain[n, c] + to_gain[n, c] * x[n, p, c] + to_bias[n, c]
                d = d_out[n, p, c] if out[n, p, c] > 0 else zero
                to_d_out[n, p, c] = through if out[n, p, c] > 0 else zero
                d_x[n, p, c] = d * to_gain[n, c]
                sums[c] += d * to_x[n, p, c]
        for c in range(x.shape[2]):
            d_gain[n, c] = sums[c]


@jit
def pool(y, maps, place):
    """2×2 maxima and their places; an odd last row or column is left out."""
    for n in range(maps.shape[0]):
        for i in range(maps.shape[1]):
            for j in range(maps.shape[2]):
                for c in range(maps.shape[3]):
                    best, at = y[n, 2 * i, 2 * j, c], 0
                    for k in range(1, 4):
                        value = y[n, 2 * i + k // 2, 2 * j + k % 2, c]
                        at = k if value > best else at
                        best = value if value > best else best
                    maps[n, i, j, c] = best
                    place[n, i, j, c] = at


@jit
def pixel_sums(y, total, squares):
    """Each channel's sum and sum of squares over the pixels."""
    zero, sums = y.dtype.type(0), np.empty((2, y.shape[2]), y.dtype)
    for n in range(y.shape[0]):
        for c in range(sums.shape[-1]):
            sums[0, c] = sums[1, c] = zero
        for p in range(y.shape[1]):
            for c in range(y.shape[2]):
                sums[0, c] += y[n, p, c]
                sums[1, c] += y[n, p, c] * y[n, p, c]
        for c in range(y.shape[2]):
            total[n, c], squares[n, c] = sums[0, c], sums[1, c]


@jit
def unpool(y, d_total, d_squares, d_maps, place, d_y):
    """The gradient of y from those of its maxima and of its sums."""
    zero, two = y.dtype.type(0), y.dtype.type(2)
    for n in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for c in range(y.shape[3]):
                    d_y[n, i, j, c] = d_total[n, c] + two * d_squares[n, c] * y[n, i, j, c]
            if i // 2 >= d_maps.shape[1]:
                continue
            for j in range(2 * d_maps.shape[2]):
                k = i % 2 * 2 + j % 2
                for c in range(y.shape[3]):
                    d = d_maps[n, i // 2, j // 2, c]
                    d_y[n, i, j, c] += d if place[n, i // 2, j // 2, c] == k else zero


@jit
def unpool_second(to_d_y, y, d_squares, place, to_maps, to_total, to_squares, d_y):
    """What reaches the gradients of maxima and sums, and y, through `unpool`, from what reaches its result."""
    zero, two, sums = y.dtype.type(0), y.dtype.type(2), np.empty((2, y.shape[3]), y.dtype)
    for n in range(y.shape[0]):
        for c in range(sums.shape[-1]):
            sums[0, c] = sums[1, c] = zero
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for c in range(y.shape[3]):
                    to = to_d_y[n, i, j, c]
                    sums[0, c] += to
                    sums[1, c] += to * y[n, i, j, c]
                    d_y[n, i, j, c] = two * d_squares[n, c] * to
        for c in range(y.shape[3]):
            to_total[n, c], to_squares[n, c] = sums[0, c], two * sums[1, c]
        for i in range(to_maps.shape[1]):
            for j in range(to_maps.shape[2]):
                for c in range(to_maps.shape[3]):
                    to = to_d_y[n, 2 * i, 2 * j, c]
                    for k in range(1, 4):
                        other = to_d_y[n, 2 * i + k // 2, 2 * j + k % 2, c]
                        to = other if place[n, i, j, c] == k else to
                    to_maps[n, i, j, c] = to
