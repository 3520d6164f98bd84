"""The one place that decides in what form a step is computed.

By the settings `compile`, `precision` and `deterministic` of `train`, and by how many tasks fit the memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from metaloom.config import TrainSettings
from metaloom.errors import MetaloomError
from metaloom.methods.base import TASKS_AT_A_TIME, Method
from metaloom.methods.model import Params
from metaloom.networks.layers import in_bfloat16
from metaloom.system.device import check_compiler, tf32

MEMORY = 0.5  # share of a GPU's free memory that a step's tasks may take together
WORTH_COMPILING = 600  # seconds of training, from which `auto` compiles on CUDA: ten times what compiling takes

Loss = Callable[..., tuple[Tensor, Params]]


def loss_of(name: str, method: Method, settings: TrainSettings, device: torch.device) -> Loss:
    """`method.loss`, compiled where the settings want it and where it pays.

    `auto` compiles on CUDA where `train.max_seconds` is `WORTH_COMPILING` or more, nothing is dropped and no CUDA graph
    is wanted, which gains more at once; never on a CPU, whose own kernels are faster.

    Raises:
        MetaloomError: compile is true, and there is no C++ compiler for it.
    """
    if settings.compile == "auto":
        long = (settings.max_seconds or 0) >= WORTH_COMPILING
        wanted = device.type == "cuda" and long and not method.network.dropout and settings.graph is False
        return _or_eager(name, method) if wanted else method.loss
    if not settings.compile:
        return method.loss
    check_compiler(device)
    return _compiled(name, method)


@contextmanager
def precision_of(settings: TrainSettings) -> Iterator[None]:
    """For a training step, backward pass included. Weights, statistics, heads and losses stay float32."""
    with tf32(settings.precision == "tf32"), in_bfloat16() if settings.precision == "bf16" else nullcontext():
        yield


@contextmanager
def repeatable(settings: TrainSettings, device: torch.device) -> Iterator[None]:
    """Within it a GPU gives the same bits again, where `train.deterministic` asks for it; a CPU does so anyway."""
    if device.type != "cuda" or not settings.deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # a module with a switch, which type checkers do not see
    filled, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False  # a pass over all new tensors
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled


def tasks_at_a_time(tasks: int, device: torch.device, one: Callable[[], object]) -> int:
    """How many of a step's tasks go through the network together: on a GPU as many as half of its free memory holds.

    Args:
        tasks: of a step.
        device: the network's.
        one: does the work of a single task; the memory that it takes is measured.
    """
    if device.type != "cuda":
        return TASKS_AT_A_TIME
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    one()
    each = torch.cuda.max_memory_allocated(device) - held
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return halved(tasks, int(MEMORY * free / max(each, 1)))


def halved(tasks: int, most: int) -> int:
    """Half of the tasks, or half of that again, until they are no more than `most` (but one): coarse, so that a little
    more or less free memory changes nothing."""
    while tasks > max(most, 1):
        tasks = -(-tasks // 2)
    return tasks


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
