"""Four residual blocks of three convolutions, the stronger network of few-shot papers.

Oreshkin, Rodríguez López, Lacoste: TADAM, 2018 (https://arxiv.org/abs/1805.10123): four blocks of three 3×3
convolutions with a shortcut, each ending in 2×2 max-pooling, then global average pooling. Lee, Maji, Ravichandran,
Soatto: Meta-Learning with Differentiable Convex Optimization (MetaOptNet), 2019 (https://arxiv.org/abs/1904.03758):
widths 64, 160, 320 and 640, leaky ReLU of slope 0.1, and a shortcut that is a 1×1 convolution with a norm.

We take the blocks and widths of MetaOptNet and the global average pooling of TADAM (MetaOptNet keeps all pixels),
so that the length of an embedding does not grow with the images; dropout drops single outputs, not squares of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Network, Tensors
from metaloom.networks.layers import convolution, dropped, full, init_norm, max_pooled, normalise

GROWTH = (1, 2.5, 5, 10)  # width of each block, in units of the first's
LAYERS = 3
SLOPE = 0.1


@dataclass(frozen=True)
class ResNet12(Network):
    """Width: channels of the first block; the others have 2.5, 5 and 10 times as many."""

    convolutions: ClassVar[bool] = True
    axes: ClassVar[tuple[int, ...]] = (3,)

    @property
    def widths(self) -> list[int]:
        """Channels of the four blocks."""
        return [int(self.width * factor) for factor in GROWTH]

    @property
    def embed(self) -> int:
        return self.widths[-1]

    def init(self, generator: torch.Generator) -> Tensors:
        """He-normal convolutions, norms at one and zero."""
        weights: Tensors = {}
        channels = self.shape[0]
        for block, width in enumerate(self.widths):
            kernels = {str(layer): (width if layer else channels, 3) for layer in range(LAYERS)}
            for layer, (inputs, side) in (kernels | {"shortcut": (channels, 1)}).items():
                shape = (width, inputs, side, side)
                kernel = torch.randn(shape, generator=generator, device=generator.device)
                weights[f"{block}.{layer}.conv"] = kernel * math.sqrt(2 / (inputs * side**2))
                weights |= init_norm(self.norm, width, f"{block}.{layer}.", generator.device)
            channels = width
        return weights

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, "*task example channel height width"],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        used: Tensors = {}

        def layer(x: Tensor, prefix: str) -> Tensor:
            x = convolution(x, weights[f"{prefix}conv"], twice)
            return normalise(self.norm, x, weights, prefix, statistics, used, twice=twice)

        for block in range(len(GROWTH)):
            y = x
            for index in range(LAYERS):
                y = layer(F.leaky_relu(y, SLOPE) if index else y, f"{block}.{index}.")
            # in the papers the activation comes first: the same values, on four times the pixels
            x = F.leaky_relu(max_pooled(y + layer(x, f"{block}.shortcut.")), SLOPE)
            x = dropped(x, self.dropout, generator)
        return full(x.mean(dim=(-2, -1))), used
