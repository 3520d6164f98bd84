"""The one place that decides where tensors live, and prepares it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from metaloom.errors import MetaloomError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        MetaloomError: the named device is not there.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        here = ", ".join(kind for kind, there in present.items() if there)
        raise MetaloomError(f"params.yaml: device: {name} is not available here ({here}); set device: auto")
    if name == "cpu":
        keep_freed_memory()
    if name == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts: for `train.deterministic`
    return torch.device(name)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may take TF32 for convolutions and products of float32 numbers: their range, 10 bits of mantissa.

    torch itself lets convolutions take it; our own processes do not (`choose_device`) but within this.
    """
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def finish(device: torch.device) -> None:
    """Wait until a device has done all that it was given, so that a clock tells when."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def check_device(device: torch.device | str) -> torch.device:
    """A device that code names, such as "cuda:1".

    Raises:
        MetaloomError: it is not there.
    """
    wanted = torch.device(device)
    count = {"cuda": torch.cuda.device_count, "mps": torch.backends.mps.is_available}.get(wanted.type, lambda: 1)()
    if (wanted.index or 0) >= count:
        raise MetaloomError(f"device {device} is not available here (there are {int(count)} of its kind); use cpu")
    return wanted


def check_compiler(device: torch.device) -> None:
    """Raises MetaloomError where there is no C++ compiler, with which `train.compile` compiles for a CPU."""
    if device.type != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise MetaloomError(
            "params.yaml: train.compile is true, but there is no C++ compiler here, which compiling for a CPU needs: "
            "install one (Debian: apt install g++; or name it in CXX), or set train.compile to auto or false"
        ) from None


@contextmanager
def explained_out_of_memory(remedy: str) -> Iterator[None]:
    """Turn what a device, torch's CPU allocator or Python raise for want of memory into one error with a remedy.

    Raises:
        MetaloomError: memory ran out.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MetaloomError(f"out of memory: {remedy}") from error
    except RuntimeError as error:
        if not any(words in str(error) for words in ("not enough memory", "can't allocate memory")):
            raise
        raise MetaloomError(f"out of memory: {remedy}") from error


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed for the next step; False where the C library has no such switch.

    By default glibc returns large blocks to the system at once, and a training step, which frees and takes the
    same hundreds of MB again and again, spends a third of its time on page faults.
    """
    mallopt = _c_function("mallopt")
    return mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1


def return_freed_memory() -> None:
    """Give the system what `keep_freed_memory` has kept so far, where the C library can: others will need it."""
    if trim := _c_function("malloc_trim"):
        trim(0)


def _c_function(name: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
