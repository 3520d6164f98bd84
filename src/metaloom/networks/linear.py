"""Each input times a weight of its own: the plainest metric that can be learned.

For inputs that are good features already, such as the TF-IDF of texts: with few training classes a network of layers
loses to them. The weights start alike, so that nearest mean before training is nearest mean of the inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Network, Tensors
from metaloom.networks.layers import dropped, full

SCALE = "scale"
START = 5.0  # so large that a usual rate changes a weight by half a percent a step: more forgets what the inputs know
FACTOR = 0.1  # of inputs of mean square 1, distances are then as large as those of the other networks


@dataclass(frozen=True)
class Linear(Network):
    """Neither width nor norm: there are no layers."""

    @property
    def embed(self) -> int:
        return math.prod(self.shape)

    def init(self, generator: torch.Generator) -> Tensors:
        """All at one value."""
        return {SCALE: torch.full((self.embed,), START, device=generator.device)}

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, ...],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        z = full(x).flatten(-len(self.shape)) * (FACTOR * weights[SCALE]).unsqueeze(-2)
        return dropped(z, self.dropout, generator), {}
