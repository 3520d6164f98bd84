"""Where the raw examples live: on the device, or on the host where they would fill it."""

from __future__ import annotations

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

SHARE = 0.5  # of the device's free memory that examples may take: the rest is for training


def placed(
    examples: Shaped[Tensor, "item ..."], device: torch.device, share: float = SHARE
) -> Shaped[Tensor, "item ..."]:
    """The examples on the device; on the host as they are (memory-mapped) where they would fill a GPU's memory."""
    if device.type == "cuda" and examples.nbytes > share * torch.cuda.mem_get_info(device)[0]:
        return examples
    return examples.to(device)


def picked(
    examples: Shaped[Tensor, "item ..."], rows: Int[Tensor, "*row"], device: torch.device
) -> Shaped[Tensor, ...]:
    """Some of the examples, on the device. From the host they travel alone, while the device goes on computing."""
    chosen = examples[rows.to(examples.device)]
    if chosen.device == device:
        return chosen
    if device.type == "cuda":
        chosen = chosen.pin_memory()
    return chosen.to(device, non_blocking=True)
