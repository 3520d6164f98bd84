"""Where the raw images live: on the device, or on the host where they would fill the device."""

from __future__ import annotations

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

SHARE = 0.5  # of the device's free memory that images may take: the rest is for training


def placed(
    images: UInt8[Tensor, "item height width channel"], device: torch.device, share: float = SHARE
) -> UInt8[Tensor, "item height width channel"]:
    """The images on the device; on the host as they are (memory-mapped) where they would fill a GPU's memory."""
    if device.type == "cuda" and images.nbytes > share * torch.cuda.mem_get_info(device)[0]:
        return images
    return images.to(device)


def picked(
    images: UInt8[Tensor, "item height width channel"], rows: Int[Tensor, "*row"], device: torch.device
) -> UInt8[Tensor, "*row height width channel"]:
    """Some of the images, on the device. From the host they travel alone, while the device goes on computing."""
    chosen = images[rows.to(images.device)]
    if chosen.device == device:
        return chosen
    if device.type == "cuda":
        chosen = chosen.pin_memory()
    return chosen.to(device, non_blocking=True)


def turned(
    images: UInt8[Tensor, "task way example height width channel"], turns: Int[Tensor, "task way"]
) -> UInt8[Tensor, "task way example height width channel"]:
    """Each way's images, rotated by its number of quarter turns."""
    result = images
    for quarter in (1, 2, 3):
        chosen = (turns == quarter)[..., None, None, None, None]
        result = torch.where(chosen, images.rot90(quarter, dims=(3, 4)), result)
    return result
