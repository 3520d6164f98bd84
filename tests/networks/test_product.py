"""What may multiply matrices, each called as BLAS is: torch's, scipy's and our own."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from metaloom.networks.cpu import measured

BOUNDS = {"sgemm": 1e-6, "dgemm": 1e-14}  # of an error, in Σ|a||b|: a few roundings
SHAPES = [(224, 64, 64), (228, 64, 64), (225, 32, 48), (1, 16, 16), (5, 20, 17), (14, 64, 31), (9, 3, 2), (0, 4, 4)]


def called(function: str, name: str, a: np.ndarray, b: np.ndarray, c: np.ndarray, transposed: bool, add: bool) -> None:
    """c = a @ b, or aᵀ @ b, or += of it; BLAS goes by columns, so that its first matrix is b."""
    address = measured.BLAS[name](function)
    if not address:
        pytest.skip(f"{name} has no {function}")
    multiply = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(address)
    real = ctypes.c_float if a.itemsize == 4 else ctypes.c_double
    letters, factors = (ctypes.c_char * 2)(b"N", b"T" if transposed else b"N"), (real * 2)(1, add)
    sizes = (ctypes.c_int * 4)(b.shape[1], len(c), len(b), a.shape[1])
    n, m, k, of_a = (ctypes.addressof(sizes) + 4 * i for i in range(4))
    no, one = ctypes.addressof(letters), ctypes.addressof(factors)
    of_b, to = b.ctypes.data, c.ctypes.data
    multiply(no, no + 1, n, m, k, one, of_b, n, a.ctypes.data, of_a, one + a.itemsize, to, n)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("function", BOUNDS)
@pytest.mark.parametrize("name", measured.BLAS)
def test_each_multiplies_matrices_of_any_shape(name, function, transposed):
    """As tiles of a convolution have them, and with edges that fill no vector; against float64, twice the same bits."""
    generator, real = np.random.default_rng(0), np.float32 if function == "sgemm" else np.float64
    for rows, depth, columns in SHAPES:
        a = generator.standard_normal((depth, rows) if transposed else (rows, depth)).astype(real)
        b = generator.standard_normal((depth, columns)).astype(real)
        mine, theirs = (a.T if transposed else a).astype(np.longdouble), b.astype(np.longdouble)
        for add in (False, True):
            start = np.full((rows + 1, columns), 3, real)  # the last row is nobody's
            results = [start.copy(), start.copy()]
            for each in results:
                called(function, name, a, b, each[:rows], transposed, add)
            np.testing.assert_array_equal(*results)
            assert (results[0][rows] == 3).all()
            error = np.abs(results[0][:rows] - (mine @ theirs + 3 * add))
            assert (error <= BOUNDS[function] * (np.abs(mine) @ np.abs(theirs) + 3)).all()


def test_our_own_sums_a_number_alike_wherever_it_is():
    """Each row and column of a product is the same in a smaller one, whatever tile it falls into there."""
    generator = np.random.default_rng(1)
    a, b = (generator.standard_normal(shape).astype(np.float32) for shape in ((23, 40), (40, 37)))
    whole, part = np.empty((23, 37), np.float32), np.empty((10, 16), np.float32)
    called("sgemm", measured.OWN, a, b, whole, False, False)
    called("sgemm", measured.OWN, a[13:], np.ascontiguousarray(b[:, 21:]), part, False, False)
    np.testing.assert_array_equal(part, whole[13:, 21:])
