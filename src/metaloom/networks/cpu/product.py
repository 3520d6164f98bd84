"""A product of matrices of our own, which needs no BLAS: tiles of the result that stay in registers.

It is called as BLAS is, by its address, and does as much of sgemm and dgemm as `metaloom.networks.cpu.blas` asks for:
the first matrix as it is, alpha 1, beta 0 or 1. Matrices of a convolution's tiles are small, so nothing is copied into
another order first. A number is summed in the same order wherever in the result it is.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from metaloom.networks.cpu.kernels import OPTIONS, jit, named_by_sources
from metaloom.networks.cpu.lanes import WIDTH, constant, lanes_of, load, repeated, store

TRANSPOSED = 84  # T


def _further(_: Any, pointer: Any, count: Any):
    """The address so many numbers on."""
    return pointer(pointer, count), lambda context, builder, signature, values: builder.gep(values[0], [values[1]])


_from: Any = intrinsic(_further)


def _tile(rows: int, vectors: int, whole: bool = True) -> Any:
    """Machine code for a tile of the result: (a, a_row, a_k, b, b_k, c, c_row, depth, add).

    c[i, j] = Σ a[i · a_row + k · a_k] · b[k · b_k + j], or += where `add` is not 0. Twelve sums of vectors, two vectors
    of b and one number of a fill the registers of a processor that has sixteen.

    Args:
        rows: of the tile.
        vectors: its columns.
        whole: false for columns of single numbers.
    """

    @intrinsic
    def product(_: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, c: Any, c_row: Any, depth: Any, add: Any):
        def write(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            real = context.get_value_type(signature.args[0].dtype)
            lanes = lanes_of(real) if whole else 1
            sums = _sums(builder, values, rows, vectors, ir.VectorType(real, lanes) if whole else real)
            *_, to, to_row, _, adding = values
            index = to_row.type
            for i, row in enumerate(sums):
                for j, each in enumerate(row):
                    place = builder.gep(to, [builder.add(builder.mul(index(i), to_row), index(j * lanes))])
                    result = builder.load(each)
                    with builder.if_else(builder.icmp_signed("==", adding, index(0))) as (alone, further):
                        with alone:
                            store(builder, result, place)
                        with further:
                            store(builder, builder.fadd(load(builder, place, lanes), result), place)
            return context.get_dummy_value()

        return types.void(a, a_row, a_k, b, b_k, c, c_row, depth, add), write

    return product


def _sums(builder: ir.IRBuilder, values: Any, rows: int, vectors: int, of: ir.Type) -> list[list[ir.Value]]:
    """Where the sums over k are when its loop is through; the compiler makes them registers."""
    a, a_row, a_k, b, b_k, _, _, depth, _ = values
    lanes, index = of.count if isinstance(of, ir.VectorType) else 1, depth.type
    sums = [[cgutils.alloca_once(builder, of) for _ in range(vectors)] for _ in range(rows)]
    for each in (each for row in sums for each in row):
        builder.store(constant(of, 0.0), each)
    with cgutils.for_range(builder, depth) as loop:
        of_a, of_b = (builder.gep(at, [builder.mul(loop.index, step)]) for at, step in ((a, a_k), (b, b_k)))
        right = [load(builder, builder.gep(of_b, [index(j * lanes)]), lanes) for j in range(vectors)]
        for i, row in enumerate(sums):
            left = repeated(builder, builder.load(builder.gep(of_a, [builder.mul(index(i), a_row)])), lanes)
            for factor, each in zip(right, row, strict=True):
                product = builder.fmul(left, factor, flags=("contract",))
                builder.store(builder.fadd(builder.load(each), product, flags=("contract",)), each)
    return sums


_six_wide, _six, _four_wide, _four = _tile(6, 2), _tile(6, 1), _tile(4, 2), _tile(4, 1)
_one_wide, _one, _single = _tile(1, 2), _tile(1, 1), _tile(1, 1, whole=False)


def _bytes(_: Any, pointer: Any):
    """Of one number."""
    size = pointer.dtype.bitwidth // 8
    return types.intp(pointer), lambda context, builder, signature, values: context.get_constant(types.intp, size)


_itemsize: Any = intrinsic(_bytes)


@jit
def _height(left):
    """Rows of the next tile: sixes, or fours where they leave fewer single rows."""
    if left >= 10 or left in (6, 7):
        return 6
    return 4 if left >= 4 else 1


@jit
def _strip(height, a, a_row, a_k, b, b_k, c, c_row, columns, depth, add, lanes):
    """A tile after the other along the rows of one."""
    j = 0
    while j + 2 * lanes <= columns:
        of_b, of_c = _from(b, j), _from(c, j)
        if height == 6:
            _six_wide(a, a_row, a_k, of_b, b_k, of_c, c_row, depth, add)
        elif height == 4:
            _four_wide(a, a_row, a_k, of_b, b_k, of_c, c_row, depth, add)
        else:
            _one_wide(a, a_row, a_k, of_b, b_k, of_c, c_row, depth, add)
        j += 2 * lanes
    if j + lanes <= columns:
        of_b, of_c = _from(b, j), _from(c, j)
        if height == 6:
            _six(a, a_row, a_k, of_b, b_k, of_c, c_row, depth, add)
        elif height == 4:
            _four(a, a_row, a_k, of_b, b_k, of_c, c_row, depth, add)
        else:
            _one(a, a_row, a_k, of_b, b_k, of_c, c_row, depth, add)
        j += lanes
    for last in range(j, columns):
        for i in range(height):
            of_c = _from(c, i * c_row + last)
            _single(_from(a, i * a_row), a_row, a_k, _from(b, last), b_k, of_c, c_row, depth, add)


def _gemm(_first, second, m, n, k, _alpha, b, ldb, a, lda, beta, c, ldc):
    """BLAS's arguments; it goes by columns, so that its first matrix is our second one."""
    columns, rows, depth = types.intp(m[0]), types.intp(n[0]), types.intp(k[0])
    b_k, of_a, c_row = types.intp(ldb[0]), types.intp(lda[0]), types.intp(ldc[0])
    a_row, a_k = (types.intp(1), of_a) if second[0] == TRANSPOSED else (of_a, types.intp(1))
    add, lanes = types.intp(beta[0]), WIDTH // _itemsize(a)
    i = types.intp(0)
    while i < rows:
        height = _height(rows - i)
        _strip(height, _from(a, i * a_row), a_row, a_k, b, b_k, _from(c, i * c_row), c_row, columns, depth, add, lanes)
        i += height


@cache
def address_of(name: str) -> int:
    """Memory address of our "sgemm" or "dgemm", compiled when it is first asked for."""
    return _compiled(name).address


@cache
def _compiled(name: str) -> Any:
    real = types.CPointer(types.float32 if name == "sgemm" else types.float64)
    letter, size = types.CPointer(types.uint8), types.CPointer(types.int32)
    signature = types.void(letter, letter, size, size, size, real, real, size, real, size, real, real, size)
    return cfunc(signature, **OPTIONS)(named_by_sources(inspect.unwrap(_gemm)))
