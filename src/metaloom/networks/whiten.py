"""Inputs whitened within classes: directions in which examples of one class differ count less.

The matrix has a closed form, S^(-1/2), where S is the covariance of training examples around the means of their
classes, drawn towards a multiple of the identity (shrinkage); validation chooses how far. What comes out has the length
√embed: measured on drawn pictures behind an ImageNet encoder, without that little is gained (benchmarks/RESULTS.md).
As in Hariharan, Malik, Ramanan: Discriminative Decorrelation for Clustering and Classification, 2012.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.networks.base import Tensors
from metaloom.networks.layerless import SCALE, START, Layerless

MATRIX = "matrix"
SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # 1: the inputs as they are


@dataclass(frozen=True)
class Whiten(Layerless):
    """One matrix, which no gradient moves, and the scale of `identity`."""

    closed: ClassVar[tuple[str, ...]] = (MATRIX,)

    def init(self, generator: torch.Generator) -> Tensors:
        """A matrix that changes nothing, until `starts` has another."""
        device = generator.device
        return {SCALE: torch.full((1,), START, device=device), MATRIX: torch.eye(self.embed, device=device)}

    def starts(self, x: Float[Tensor, "item ..."], classes: Int[Tensor, " item"]) -> Iterator[tuple[str, Tensors]]:
        """One for each shrinkage; in float64, so on the host: Apple's GPUs have none."""
        rows = x.flatten(1).cpu().double()
        _, classes, counts = classes.cpu().unique(return_inverse=True, return_counts=True)
        means = rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, classes, rows) / counts[:, None]
        within = rows - means[classes]
        values, vectors = torch.linalg.eigh(within.mT @ within / max(len(rows) - len(counts), 1))
        for shrinkage in SHRINKAGES:
            shrunk = (1 - shrinkage) * values.clamp(min=0) + shrinkage * values.mean().clamp(min=1e-12)
            matrix = vectors @ torch.diag((values.mean().clamp(min=1e-12) / shrunk).sqrt()) @ vectors.mT
            yield f"shrinkage {shrinkage}", {MATRIX: matrix.to(x)}

    def unscaled(self, weights: Tensors, x: Float[Tensor, ...]) -> Float[Tensor, "*task example embed"]:
        matrix = weights[MATRIX]
        z = x @ (matrix.detach() + 0 * matrix)  # a gradient of zero, where one is asked for
        return z * (math.sqrt(self.embed) / z.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=1e-6))
