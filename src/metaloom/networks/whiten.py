"""Inputs whitened within classes: directions in which examples of one class differ count less.

The matrix has a closed form, S^(-1/2), where S is the covariance of training examples around the means of their
classes, drawn towards a multiple of the identity (shrinkage). Of what comes out the directions in which the means of
the training classes differ most may be kept alone, as in linear discriminant analysis (Fisher, 1936). Validation
chooses both. What comes out has the length √embed: measured on drawn pictures behind an ImageNet encoder, without that
nothing is gained (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.networks.base import Network, Tensors
from metaloom.networks.identity import FACTOR, SCALE, START
from metaloom.networks.layers import dropped, full

MATRIX = "matrix"
SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 1.0)  # 1: the inputs as they are
KEPT = (1.0, 1 / 3)  # shares of the directions


@dataclass(frozen=True)
class Whiten(Network):
    """Neither width nor norm: there is one matrix, which no gradient moves, and the scale of `identity`."""

    closed: ClassVar[tuple[str, ...]] = (MATRIX,)

    @property
    def embed(self) -> int:
        return math.prod(self.shape)

    def init(self, generator: torch.Generator) -> Tensors:
        """A matrix that changes nothing, until `starts` has another."""
        device = generator.device
        return {SCALE: torch.full((1,), START, device=device), MATRIX: torch.eye(self.embed, device=device)}

    def starts(self, x: Float[Tensor, "item ..."], classes: Int[Tensor, " item"]) -> Iterator[tuple[str, Tensors]]:
        """One for each shrinkage and share of the directions."""
        rows = x.flatten(1).double()
        _, classes, counts = classes.unique(return_inverse=True, return_counts=True)
        means = rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, classes, rows) / counts[:, None]
        within = rows - means[classes]
        values, vectors = torch.linalg.eigh(within.mT @ within / max(len(rows) - len(counts), 1))
        typical = values.mean().clamp(min=1e-12)
        for shrinkage in SHRINKAGES:
            shrunk = (1 - shrinkage) * values.clamp(min=0) + shrinkage * typical
            matrix = vectors @ torch.diag((typical / shrunk).sqrt()) @ vectors.mT
            between = torch.linalg.eigh(torch.cov((means @ matrix).mT)).eigenvectors  # those that differ most come last
            for share in KEPT:
                own = between[:, -max(1, round(share * self.embed)) :]
                name = f"shrinkage {shrinkage}, {own.shape[1]} of {self.embed} directions"
                yield name, {MATRIX: (matrix @ own @ own.mT if share < 1 else matrix).to(x.dtype)}

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, ...],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        matrix = weights[MATRIX]
        z = full(x).flatten(-len(self.shape)) @ (
            matrix.detach() + 0 * matrix
        )  # a gradient of zero, where one is asked for
        z = z * (math.sqrt(self.embed) / z.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=1e-6))
        return dropped(z * (FACTOR * weights[SCALE]).unsqueeze(-2), self.dropout, generator), {}
