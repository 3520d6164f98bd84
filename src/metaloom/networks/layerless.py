"""Networks without layers: the inputs, or what a subclass makes of them, times learned weights."""

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
class Layerless(Network):
    """Neither width nor norm: there are no layers. The weights `SCALE` are one number, or one for each input."""

    @property
    def embed(self) -> int:
        return math.prod(self.shape)

    def unscaled(self, weights: Tensors, x: Float[Tensor, ...]) -> Float[Tensor, "*task example embed"]:
        """What is multiplied by the weights; x is (*task, example, embed)."""
        return x

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, ...],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        z = self.unscaled(weights, full(x).flatten(-len(self.shape)))
        return dropped(z * (FACTOR * weights[SCALE]).unsqueeze(-2), self.dropout, generator), {}
