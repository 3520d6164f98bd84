"""What multiplies matrices on this processor: torch's BLAS, scipy's or our own product, whichever is the fastest.

Each BLAS runs generic code on processors that the other knows better; our own, compiled by numba, is there without any.
They are measured once for a processor and these versions, on a thread, with products as a convolution by tiles has
them. What was measured is kept beside the machine code, as the last bits of a result depend on the choice.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import torch
from filelock import FileLock
from numba.extending import get_cython_function_address
from threadpoolctl import ThreadpoolController

from metaloom.networks.cpu import product
from metaloom.networks.cpu.kernels import activate
from metaloom.system.files import write_json

OWN = "numba"  # it is compiled only to be measured or used
FIRST = "torch"  # where it is there, and nothing is MARGIN times as fast: so that a second measurement chooses the same
MARGIN = 1.1
TURNS = 20
PRODUCTS, ROWS, CHANNELS = 36, 228, 64  # of a convolution by tiles with 64 channels


@dataclass(frozen=True)
class Choice:
    """What multiplies matrices.

    Args:
        name: whose it is, "torch", "scipy" or "numba": our own.
        rates: GFLOP/s of each that is there, on a thread.
        file: that keeps them; without it they are measured again.
    """

    name: str
    rates: dict[str, float]
    file: Path

    def __str__(self) -> str:
        return f"{self.name} {version(self.name)}"


@cache
def chosen() -> Choice:
    """What multiplies matrices in this process; a BLAS keeps to one thread from here on."""
    there = [OWN, *(name for name, find in BLAS.items() if name != OWN and find("sgemm"))]
    versions = "-".join(f"{name}{version(name)}" for name in there)
    file = Path(activate.stats.cache_path) / f"products-{llvm.get_host_cpu_name()}-{versions}.json"
    _keep_to_one_thread()
    with FileLock(file.with_suffix(".lock")):
        rates = _kept(file)
        if rates.keys() != set(there):
            rates = measure({name: BLAS[name]("sgemm") for name in there})
            write_json(file, rates)
    fastest = max(rates, key=lambda name: rates[name])
    return Choice(FIRST if rates[fastest] < MARGIN * rates.get(FIRST, 0) else fastest, rates, file)


def address_of(name: str) -> int:
    """Memory address of the chosen function."""
    return BLAS[chosen().name](name)


def measure(addresses: dict[str, int]) -> dict[str, float]:
    """GFLOP/s of each sgemm at its best; they take turns, so that a busy moment is everyone's.

    Args:
        addresses: of the functions, by name.
    """
    a, b, c = (np.ones((PRODUCTS, rows, CHANNELS), np.float32) for rows in (ROWS, CHANNELS, ROWS))
    works = {name: _multiplying(address, a, b, c) for name, address in addresses.items()}
    best = dict.fromkeys(works, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(TURNS):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - started)
    torch.set_num_threads(threads)
    return {name: round(2 * a.size * CHANNELS / seconds / 1e9, 1) for name, seconds in best.items()}


def _multiplying(address: int, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Callable[[], None]:
    """c[k] = a[k] @ b[k] for every k, as `metaloom.networks.cpu.blas` has it."""
    multiply = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(address)
    letter, sizes, factors = ctypes.c_char(b"N"), (ctypes.c_int * 2)(CHANNELS, ROWS), (ctypes.c_float * 2)(1, 0)
    no, n, one = map(ctypes.addressof, (letter, sizes, factors))
    m, zero = n + 4, one + 4
    each = [tuple(of[k].ctypes.data for of in (a, b, c)) for k in range(PRODUCTS)]

    def work() -> None:
        assert letter and sizes and factors  # kept alive as long as this function
        for of_a, of_b, of_c in each:
            multiply(no, no, n, m, n, one, of_b, n, of_a, n, zero, of_c, n)

    return work


def _kept(file: Path) -> dict[str, float]:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8"))
    return {}


def _in_torch(name: str) -> int:
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        if function := getattr(ctypes.CDLL(str(library)), f"{name}_", None):
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def _in_scipy(name: str) -> int:
    with contextlib.suppress(ImportError):
        return get_cython_function_address("scipy.linalg.cython_blas", name)
    return 0


def _keep_to_one_thread() -> None:
    """scipy's threads would take the processors from ours, which have a part of the examples each."""
    ThreadpoolController().select(user_api="blas").limit(limits=1)


BLAS: dict[str, Callable[[str], int]] = {"torch": _in_torch, "scipy": _in_scipy, OWN: product.address_of}
