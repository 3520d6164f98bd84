"""The inputs and a learned matrix of them: what else a metric can be that starts from the inputs as they are.

For embeddings of an encoder: with the matrix at zero, before training, it is `identity`, and early stopping on
validation keeps that where nothing is gained. What comes out has one length, as of `whiten`. Measured on texts behind
a sentence encoder it gains half a point over `identity` (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Tensors
from metaloom.networks.layerless import SCALE, START, Layerless

MATRIX = "matrix"
STEP = 0.02  # a usual rate then moves an entry by 0.0004 a step: ten times that forgets what the inputs know


@dataclass(frozen=True)
class Matrix(Layerless):
    """x + x · matrix, of the length √embed, and the scale of `identity`."""

    def init(self, generator: torch.Generator) -> Tensors:
        """A matrix of zeros."""
        device = generator.device
        start = torch.full((1,), START, device=device)
        return {SCALE: start, MATRIX: torch.zeros(self.embed, self.embed, device=device)}

    def unscaled(self, weights: Tensors, x: Float[Tensor, ...]) -> Float[Tensor, "*task example embed"]:
        z = x + STEP * (x @ weights[MATRIX])
        return z * (math.sqrt(self.embed) / z.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=1e-6))
