"""Prototypical networks.

Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, 2017 (https://arxiv.org/abs/1703.05175).
A class is the mean embedding of its support examples (its prototype c_k), and a query f(x) goes to the nearest:
p(y=k|x) = softmax(-‖f(x) - c_k‖²). As ‖f(x)‖² is the same for all classes it drops out, and what is left is
a linear head, 2·c_k·f(x) - ‖c_k‖² (the paper's section 2.4).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.methods.base import EmbeddingMethod, Head, Params


class ProtoNet(EmbeddingMethod):
    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        prototypes = prototypes_of(support_z, support_y, n_way)
        return Head(2 * prototypes, -prototypes.square().sum(dim=-1))


def prototypes_of(
    support_z: Float[Tensor, "*task support embed"], support_y: Int[Tensor, " support"], n_way: int
) -> Float[Tensor, "*task {n_way} embed"]:
    """Mean embedding of each class."""
    member = (support_y == torch.arange(n_way, device=support_y.device)[:, None]).to(support_z.dtype)
    return member @ support_z / member.sum(dim=1, keepdim=True)
