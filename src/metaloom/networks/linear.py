"""Each input times a weight of its own: the plainest metric that can be learned.

For inputs that are good features already, such as the TF-IDF of texts: with few training classes a network of layers
loses to them. The weights start alike, so that nearest mean before training is nearest mean of the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metaloom.networks.base import Tensors
from metaloom.networks.layerless import SCALE, START, Layerless


@dataclass(frozen=True)
class Linear(Layerless):
    """Each input times a weight of its own."""

    def init(self, generator: torch.Generator) -> Tensors:
        """All at one value."""
        return {SCALE: torch.full((self.embed,), START, device=generator.device)}
