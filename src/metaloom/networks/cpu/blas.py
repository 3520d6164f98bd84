"""Products of matrices for machine code, which calls BLAS by address and so keeps clear of Python's lock.

`metaloom.networks.cpu.measured` chooses the BLAS, or our own product in its place. The address goes by a name, so that
machine code kept on disk finds it in another process.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import types

from metaloom.networks.cpu.kernels import jit
from metaloom.networks.cpu.measured import address_of


def _function(name: str) -> Any:
    llvm.add_symbol(f"metaloom_{name}", address_of(name))
    return types.ExternalFunction(f"metaloom_{name}", types.void(*[types.uintp] * 13))


_sgemm, _dgemm = _function("sgemm"), _function("dgemm")


@jit
def multiply(a, b, c, rows):
    """c[k] = a[k] @ b[k] for every k, over the first rows of a and c; all contiguous."""
    letters, sizes = np.array([78], np.uint8), np.array([b.shape[2], rows, b.shape[1]], np.int32)  # 78 is N
    factors = np.array([1, 0], a.dtype)
    no, n, one = letters.ctypes.data, sizes.ctypes.data, factors.ctypes.data
    m, k, zero = n + 4, n + 8, one + a.itemsize
    for i in range(len(a)):  # BLAS goes by columns: it sees the transposed product
        of_a, of_b, of_c = a[i].ctypes.data, b[i].ctypes.data, c[i].ctypes.data
        if a.itemsize == 4:
            _sgemm(no, no, n, m, k, one, of_b, n, of_a, k, zero, of_c, n)
        else:
            _dgemm(no, no, n, m, k, one, of_b, n, of_a, k, zero, of_c, n)


@jit
def add_products(a, b, c, rows):
    """c[k] += a[k].T @ b[k] for every k, over the first rows of a and b; all contiguous."""
    letters, sizes = np.array([78, 84], np.uint8), np.array([c.shape[2], c.shape[1], rows], np.int32)  # 84 is T
    factor = np.ones(1, a.dtype)
    no, n, one = letters.ctypes.data, sizes.ctypes.data, factor.ctypes.data
    transposed, m, k = no + 1, n + 4, n + 8
    for i in range(len(a)):
        of_a, of_b, of_c = a[i].ctypes.data, b[i].ctypes.data, c[i].ctypes.data
        if a.itemsize == 4:
            _sgemm(no, transposed, n, m, k, one, of_b, n, of_a, m, one, of_c, n)
        else:
            _dgemm(no, transposed, n, m, k, one, of_b, n, of_a, m, one, of_c, n)
