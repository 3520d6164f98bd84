"""Processes that share out the tasks of every step. With one process nothing here does anything.

torchrun starts them, with their number and place in the environment: gloo joins CPUs, NCCL GPUs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from metaloom.errors import MetaloomError

PATIENCE = timedelta(hours=2)  # the others wait while the first validates; one that dies is noticed at once
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process's place among the `count` that train together."""

    rank: int = 0
    count: int = 1

    @classmethod
    @contextmanager
    def joined(cls, device: torch.device) -> Iterator[Ranks]:
        """Meet the others that torchrun has started; from now on `cuda` is this process's own GPU."""
        if not launched():
            yield ALONE
            return
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        yield cls(dist.get_rank(), dist.get_world_size())
        dist.destroy_process_group()  # not after an error: it would wait for processes that are gone

    @property
    def first(self) -> bool:
        """Whether it is this process that validates and writes."""
        return self.rank == 0

    def share(self, *tensors: Tensor) -> list[Tensor]:
        """This process's tasks, of tensors that hold those of all."""
        tasks = len(tensors[0]) // self.count
        return [tensor[self.rank * tasks : (self.rank + 1) * tasks] for tensor in tensors]

    def own(self, generator: torch.Generator, device: torch.device, seed: int, step: int) -> torch.Generator:
        """A generator on the device for what differs between tasks (dropout): others' draws are not the same.

        `generator` draws the episodes and has to stay alike in all processes. One that follows from seed, step
        and rank needs no place in the checkpoint.
        """
        if self.count == 1 and generator.device == device:
            return generator
        digest = hashlib.sha256(f"{seed}/{step}/{self.rank}".encode()).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big", signed=True))

    def average(self, leaves: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
        """Replace the gradients of `leaves` by their means over the processes, and return those of `others`.

        A gradient that is None counts as zero, and stays None where it is None in all.
        """
        if self.count == 1:
            return list(others)
        complete = all(leaf.grad is not None for leaf in leaves)
        present = torch.ones(len(leaves), device=leaves[0].device)
        if not complete:  # which is asked for, and makes a GPU's host wait, only where it is in doubt
            present.copy_(torch.tensor([leaf.grad is not None for leaf in leaves]))
        grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        parts = [present, *grads, *others]
        flat = torch.cat([part.detach().flatten() for part in parts])
        dist.all_reduce(flat)
        flat /= self.count
        means = [mean.view_as(part) for mean, part in zip(flat.split([p.numel() for p in parts]), parts, strict=True)]
        there_in_any = [1.0] * len(leaves) if complete else means[0].tolist()
        for leaf, there, mean in zip(leaves, there_in_any, means[1 : 1 + len(leaves)], strict=True):
            leaf.grad = mean.clone() if there else None
        return means[1 + len(leaves) :]

    def agreed(self, compute: Callable[[], T]) -> T:
        """What the first process computes, in all of them."""
        if self.count == 1:
            return compute()
        held: list[T | None] = [compute() if self.first else None]
        dist.broadcast_object_list(held)
        return held[0]  # type: ignore[return-value]


ALONE = Ranks()


def launched() -> bool:
    """Whether this process is one of torchrun's."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def check_processes(processes: int, device: torch.device) -> None:
    """Raises MetaloomError where the device cannot serve so many processes."""
    if device.type == "cuda" and torch.cuda.device_count() < processes:
        raise MetaloomError(
            f"params.yaml: train.processes is {processes}, but there are {torch.cuda.device_count()} GPUs, and each "
            "process needs its own; lower train.processes or set device: cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise MetaloomError(
            f"params.yaml: train.processes is {processes}, but {device.type} serves one process; set device: cpu "
            "or train.processes: 1"
        )
