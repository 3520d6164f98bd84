"""The engine of networks on a CPU: machine code of ours (`metaloom.networks.cpu`, by numba), or torch's layers alone.

numba is imported when a tensor on a CPU first meets a network, and its result is compared with torch's before it
counts.
"""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.system.terminal import say

ENGINE = "METALOOM_ENGINE"  # an environment variable, so that processes that a stage starts hear of it too
ENGINES = ("auto", "torch", "numba")
TOLERANCE = 1e-3  # of the self-test; Winograd's tiles round to 2e-5


def choose_engine(name: str) -> None:
    """From here on, in this process and in those that it starts.

    Args:
        name: "auto" takes numba where it works and says so where not; "torch"; "numba" or an error.
    """
    os.environ[ENGINE] = name


def machine_code() -> ModuleType | None:
    """`metaloom.networks.cpu`, or None where torch's layers are to be taken.

    Raises:
        MetaloomError: the engine is "numba" and it does not work here, or there is none of this name.
    """
    return _machine_code(os.environ.get(ENGINE, "auto"))


def described() -> str:
    """The engine and its BLAS, with their versions."""
    code = machine_code()
    return f"numba {code.NUMBA}, products by {code.chosen()}" if code else f"torch {torch.__version__}"


@cache
def _machine_code(wanted: str) -> ModuleType | None:
    if wanted not in ENGINES:
        raise MetaloomError(f"{ENGINE} is {wanted}: write one of {', '.join(ENGINES)}, or unset it")
    if wanted == "torch":
        return None
    try:
        return _working()
    except MetaloomError as error:
        if wanted == "numba":
            raise MetaloomError(
                f"params.yaml: engine is numba, which does not work here ({error}): give `--set engine=auto`, or write "
                "`engine: auto` in params.yaml"
            ) from error
        say(f"engine: torch's layers alone, two to three times as slow in training: numba does not work here ({error})")
        return None


def _working() -> ModuleType:
    """Machine code that was made here and computes what torch does; any other error is one of our own, and is shown.

    Raises:
        MetaloomError: there is none.
    """
    try:
        from numba.core import config

        if getattr(config, "DISABLE_JIT", 0):
            raise MetaloomError("NUMBA_DISABLE_JIT is set")
        from numba.core.errors import NumbaError
    except (ImportError, OSError, RuntimeError) as error:  # no numba, or no library that it loads
        raise MetaloomError(_why(error)) from error
    try:
        from metaloom.networks import cpu
    except (ImportError, OSError, RuntimeError, NumbaError) as error:  # no folder for its code
        raise MetaloomError(_why(error)) from error
    try:
        _compare(cpu)
    except (NumbaError, OSError) as error:  # it cannot compile for this processor, or not keep what it compiled
        raise MetaloomError(_why(error)) from error
    return cpu


def _why(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if "no locator available" in text:  # numba's words for it
        return "no folder to keep machine code in: set NUMBA_CACHE_DIR to one that can be written"
    return text


def _compare(cpu: ModuleType) -> None:
    """A block, forth and back, against torch's operators.

    Raises:
        MetaloomError: they differ.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 16, 6, 6), (4, 16), (4, 16), (1, 16, 16, 3, 3))
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [torch.randn(shape, generator=generator, dtype=torch.float32).requires_grad_() for shape in shapes]
        results = []
        for block in (lambda *given: cpu.convolve_and_pool(*given, sums=True, twice=False), _by_torch):
            found = block(*leaves)
            loss = torch.stack([each.square().sum() for each in found]).sum()
            results.append([each.detach() for each in (*found, *torch.autograd.grad(loss, leaves))])
    for ours, expected in zip(*results, strict=True):
        if not torch.allclose(ours, expected, rtol=TOLERANCE, atol=TOLERANCE * float(expected.abs().max())):
            raise MetaloomError("its convolution is not torch's")


def _by_torch(x: Tensor, gain: Tensor, bias: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
    y = F.conv2d(F.relu(x * gain[..., None, None] + bias[..., None, None]), kernels[0], padding=1)
    return F.max_pool2d(y, 2), y.sum(dim=(2, 3)), y.square().sum(dim=(2, 3))
