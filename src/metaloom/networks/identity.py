"""The inputs themselves: for embeddings of an encoder that is to stay as it is.

One number is learned, their scale: it changes how sure a nearest mean is, and never which class it names.
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
START, FACTOR = 5.0, 0.1  # as in `linear`: of inputs of mean square 1, distances are as large as other networks'


@dataclass(frozen=True)
class Identity(Network):
    """Neither width nor norm: there are no layers."""

    @property
    def embed(self) -> int:
        return math.prod(self.shape)

    def init(self, generator: torch.Generator) -> Tensors:
        """The scale alone."""
        return {SCALE: torch.full((1,), START, device=generator.device)}

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
