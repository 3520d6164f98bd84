"""The one place that decides in what form a loss is computed: `train.compile` and `train.precision`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from metaloom.config import TrainSettings
from metaloom.errors import MetaloomError
from metaloom.methods.base import Method
from metaloom.methods.model import Params
from metaloom.networks.layers import in_bfloat16

WORTH_COMPILING = 600  # seconds of training, from which `auto` compiles on CUDA: ten times what compiling takes

Loss = Callable[..., tuple[Tensor, Params]]


def loss_of(name: str, method: Method, settings: TrainSettings, device: torch.device) -> Loss:
    """`method.loss`, compiled where the settings want it and where it pays.

    `auto` compiles on CUDA where `train.max_seconds` is `WORTH_COMPILING` or more and nothing is dropped; never on
    a CPU, whose own kernels are faster.

    Raises:
        MetaloomError: compile is true, and there is no C++ compiler for it.
    """
    if settings.compile == "auto":
        wanted = device.type == "cuda" and (settings.max_seconds or 0) >= WORTH_COMPILING and not method.network.dropout
        return _or_eager(name, method) if wanted else method.loss
    if not settings.compile:
        return method.loss
    if device.type == "cpu":
        _check_compiler()
    return _compiled(name, method)


def precision_of(settings: TrainSettings) -> AbstractContextManager[None]:
    """For a training step, backward pass included. Weights, statistics, heads and losses stay float32."""
    return in_bfloat16() if settings.precision == "bf16" else nullcontext()


def _compiled(name: str, method: Method) -> Loss:
    from metaloom.training.compiled import CompiledLoss  # slow to import, and few runs need it

    return CompiledLoss(method, name)


def _or_eager(name: str, method: Method) -> Loss:
    """The compiled loss, or the plain one from when it turns out not to compile."""
    losses = [_compiled(name, method)]

    def loss(*args: object) -> tuple[Tensor, Params]:
        try:
            return losses[-1](*args)
        except MetaloomError:
            losses.append(method.loss)
            return method.loss(*args)  # type: ignore[arg-type]

    return loss


def _check_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise MetaloomError(
            "params.yaml: train.compile is true, but there is no C++ compiler here, which compiling for a CPU needs: "
            "install one (Debian: apt install g++; or name it in CXX), or set train.compile to auto or false"
        ) from None
