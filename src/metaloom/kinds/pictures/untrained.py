"""What pictures look like to a network that has learned nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from metaloom.networks import Conv4

WIDTH = 32


def features(images: UInt8[Tensor, "item height width channel"]) -> Float[Tensor, "item embed"]:
    """Embeddings by one fixed network with random weights, on the CPU.

    Random convolutions keep what images look like (Saxe et al.: On Random Weights and Unsupervised Feature
    Learning, 2011).
    """
    _, size, _, channels = images.shape
    network = Conv4(shape=(channels, size, size), width=WIDTH, norm="group")
    weights = network.init(torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network(weights, images.movedim(-1, -3) / 127.5 - 1)[0]
