"""The shared network's architecture, trained from random weights on the support set alone."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import ScratchSettings
from metaloom.networks import Network


def scratch(
    settings: ScratchSettings,
    network: Network,
    support_x: Float[Tensor, "support channel height width"],
    support_y: Int[Tensor, " support"],
    query_x: Float[Tensor, "query channel height width"],
    seed: int,
) -> Float[np.ndarray, "query n_way"]:
    """Log-probabilities of the queries, after full-batch Adam steps; batch norm keeps the support's statistics."""
    weights = network.init(torch.Generator().manual_seed(seed))
    n_way = int(support_y.max()) + 1
    weights |= {"head.weight": torch.zeros(n_way, network.embed), "head.bias": torch.zeros(n_way)}
    optimiser = torch.optim.Adam([w.requires_grad_() for w in weights.values()], lr=settings.learning_rate)
    for _ in range(settings.steps):
        embedding, _ = network(weights, support_x)
        loss = F.cross_entropy(F.linear(embedding, weights["head.weight"], weights["head.bias"]), support_y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        _, statistics = network(weights, support_x)
        embedding, _ = network(weights, query_x, statistics)
        return F.linear(embedding, weights["head.weight"], weights["head.bias"]).log_softmax(dim=1).numpy()
