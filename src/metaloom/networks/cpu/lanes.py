"""Vectors of the processor in machine code, written down as such.

numba turns a loop into vectors where it can show that no two arrays overlap, which costs it more than the work in short
loops. What is written here needs no such proof, and keeps its intermediate values in registers. Offsets count numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

WIDTH = 64 if llvm.get_host_cpu_features().get("avx512f") else 32  # bytes of a vector
FLAGS = ("contract", "nsz")  # a product and a sum may become one instruction
_INDEX = ir.IntType(32)


def lanes_of(real: ir.Type) -> int:
    """Numbers of a vector."""
    return WIDTH // _bytes(real)


def load(builder: ir.IRBuilder, pointer: ir.Value, lanes: int) -> ir.Value:
    """So many numbers from there on; of a single one the number."""
    real = _pointed(pointer)
    if lanes == 1:
        return builder.load(pointer)
    return builder.load(builder.bitcast(pointer, ir.VectorType(real, lanes).as_pointer()), align=_bytes(real))


def store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
    """A vector or a number from there on."""
    if isinstance(value.type, ir.VectorType):
        pointer = builder.bitcast(pointer, value.type.as_pointer())
    builder.store(value, pointer, align=_bytes(_real(value.type)))


def repeated(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """One number in every place of a vector."""
    if lanes == 1:
        return value
    none = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(none, value, _INDEX(0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_INDEX, lanes), [0] * lanes))


def constant(of: ir.Type, number: float) -> ir.Constant:
    """The number, in every place of a vector."""
    return ir.Constant(of, [number] * of.count if isinstance(of, ir.VectorType) else number)


@dataclass(frozen=True)
class Lanes:
    """A vector of code that is being written, with the arithmetic of a formula."""

    builder: ir.IRBuilder
    value: ir.Value

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fadd(self.value, other.value, flags=FLAGS))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fsub(self.value, other.value, flags=FLAGS))

    def __rmul__(self, factor: float) -> Lanes:
        return Lanes(self.builder, self.builder.fmul(constant(self.value.type, factor), self.value, flags=FLAGS))


Formula = Callable[..., tuple[Lanes, ...]]


def of_square(formula: Formula, side: int) -> Any:
    """Machine code that puts a square of pixels through a formula, its columns first and then the rows of the result.

    It is called with (source, at, down, across, target, at, down, across): an array, the offset of the first pixel,
    and from one pixel to the next in a column and in a row; and the same of the result. It takes as many channels as
    a vector has lanes.

    Args:
        formula: of the pixels of a column.
        side: how many these are.
    """

    @intrinsic
    def through(
        _: Any, source: Any, at: Any, down: Any, across: Any, target: Any, to: Any, to_down: Any, to_across: Any
    ):
        def write(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            taken = _places(context, builder, signature.args[0], values[:4])
            given = _places(context, builder, signature.args[4], values[4:])
            rows: list[list[Lanes]] = []
            for j in range(side):
                column = [taken(i, j) for i in range(side)]
                lanes = lanes_of(_pointed(column[0]))
                rows.append(list(formula(*(Lanes(builder, load(builder, each, lanes)) for each in column))))
            for i, row in enumerate(zip(*rows, strict=True)):
                for j, result in enumerate(formula(*row)):
                    store(builder, result.value, given(i, j))
            return context.get_dummy_value()

        from numba import types

        return types.void(source, at, down, across, target, to, to_down, to_across), write

    return through


def _places(context: Any, builder: ir.IRBuilder, array: Any, values: Any) -> Callable[[int, int], ir.Value]:
    """Where pixel (i, j) is."""
    of_array, at, down, across = values
    data = context.make_array(array)(context, builder, of_array).data

    def place(i: int, j: int) -> ir.Value:
        steps = builder.add(builder.mul(down.type(i), down), builder.mul(across.type(j), across))
        return builder.gep(data, [builder.add(at, steps)])

    return place


def _pointed(pointer: ir.Value) -> ir.Type:
    return pointer.type.pointee


def _real(of: ir.Type) -> ir.Type:
    return of.element if isinstance(of, ir.VectorType) else of


def _bytes(real: ir.Type) -> int:
    return np.dtype(np.float32 if isinstance(real, ir.FloatType) else np.float64).itemsize
