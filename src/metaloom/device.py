"""The one place that decides where tensors live."""

from __future__ import annotations

import torch

from metaloom.errors import MetaloomError


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
    return torch.device(name)
