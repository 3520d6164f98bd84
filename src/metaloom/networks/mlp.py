"""A multilayer perceptron: the plainest network, for rows of numbers, small pictures and as a point of reference.

Layers of Finn, Abbeel, Levine: Model-Agnostic Meta-Learning, 2017 (https://arxiv.org/abs/1703.03400), section 5.2:
linear, batch norm, ReLU. Theirs has four of 256, 128, 64 and 64 units; ours three of equal width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Network, Tensors
from metaloom.networks.layers import dropped, full, init_norm, linear, normalise

LAYERS = 3


@dataclass(frozen=True)
class Mlp(Network):
    """Width: units of every layer."""

    @property
    def embed(self) -> int:
        return self.width

    def init(self, generator: torch.Generator) -> Tensors:
        """He-normal matrices, norms at one and zero."""
        weights: Tensors = {}
        inputs = math.prod(self.shape)
        for layer in range(LAYERS):
            matrix = torch.randn(self.width, inputs, generator=generator, device=generator.device)
            weights[f"{layer}.linear"] = matrix * math.sqrt(2 / inputs)
            weights |= init_norm(self.norm, self.width, f"{layer}.", generator.device)
            inputs = self.width
        return weights

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, ...],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        used: Tensors = {}
        z = x.flatten(-len(self.shape))
        for layer in range(LAYERS):
            z = linear(z, weights[f"{layer}.linear"])
            z = normalise(self.norm, z, weights, f"{layer}.", statistics, used, pixels=0, twice=twice)
            z = dropped(F.relu(z), self.dropout, generator)
        return full(z), used
