"""The inputs themselves: for embeddings of an encoder that is to stay as it is.

One number is learned, their scale: it changes how sure a nearest mean is, and never which class it names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metaloom.networks.base import Tensors
from metaloom.networks.layerless import SCALE, START, Layerless


@dataclass(frozen=True)
class Identity(Layerless):
    """All inputs times one number."""

    def init(self, generator: torch.Generator) -> Tensors:
        """The scale alone."""
        return {SCALE: torch.full((1,), START, device=generator.device)}
