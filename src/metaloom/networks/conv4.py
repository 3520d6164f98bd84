"""Four convolutional blocks, the shared network of most few-shot papers.

Vinyals et al., Matching Networks for One Shot Learning, 2016 (https://arxiv.org/abs/1606.04080), section 3.1:
3×3 convolution, batch norm, ReLU, 2×2 max-pooling, four times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.norm import init_norm, normalise

Tensors = dict[str, Tensor]
BLOCKS = 4


@dataclass(frozen=True)
class Conv4:
    """A pure function of its weights: `network(weights, x) → (embedding, statistics)`.

    Args:
        channels: input channels.
        width: channels of every block.
        image_size: side of the square input, in pixels.
        norm: "batch", "group" or "none".
    """

    channels: int
    width: int
    image_size: int
    norm: str

    @property
    def embed(self) -> int:
        """Length of an embedding."""
        return self.width * (self.image_size // 2**BLOCKS) ** 2

    def init(self, generator: torch.Generator) -> Tensors:
        """Fresh weights on the generator's device: He-normal convolutions, norms at one and zero."""
        weights: Tensors = {}
        channels = self.channels
        for block in range(BLOCKS):
            std = math.sqrt(2 / (channels * 9))
            shape = (self.width, channels, 3, 3)
            weights[f"{block}.conv"] = torch.randn(shape, generator=generator, device=generator.device) * std
            weights |= init_norm(self.norm, self.width, f"{block}.", generator.device)
            channels = self.width
        return weights

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, "batch channel height width"],
        statistics: Tensors | None = None,
        differentiable: bool = False,
    ) -> tuple[Float[Tensor, "batch embed"], Tensors]:
        """Embed normalised images.

        Args:
            weights: as `init` makes them.
            x: images.
            statistics: batch norm's means and variances to use; None takes those of `x`.
            differentiable: the returned statistics carry gradients.

        Returns:
            The embeddings and the statistics that were used (none unless the norm is "batch").
        """
        used: Tensors = {}
        for block in range(BLOCKS):
            kernel = weights[f"{block}.conv"].contiguous(memory_format=torch.channels_last)
            x = F.conv2d(x, kernel, padding=1)
            x = normalise(self.norm, x, weights, f"{block}.", statistics, used, differentiable)
            x = F.relu(F.max_pool2d(x, 2))  # in the papers ReLU comes first: the same values, on four times the pixels
        return x.flatten(1), used
