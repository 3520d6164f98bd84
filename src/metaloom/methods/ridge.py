"""Ridge regression as the learner of a task (R2-D2).

Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with differentiable closed-form solvers, 2019
(https://arxiv.org/abs/1805.08136). A task's head is the ridge regression of the one-hot labels Y on the support
embeddings X, W = (XᵀX + λI)⁻¹XᵀY = Xᵀ(XXᵀ + λI)⁻¹Y (the paper's equations 4 and 5), and a query's logits are
α·x·W + β. The solution is differentiable, so the network, λ and α learn through it. The weight `regularisation`
is log λ, `scale` is log α.

We deviate in five places. Of the two forms we solve the smaller one, whatever the shots. β is left out: it adds the
same to every class, which softmax takes away again. Classes count alike, however many examples each has: an example's
squared error has the weight of its class (`metaloom.methods.model.class_weights`). Where these numbers are unlike, a
bias makes up for what the scores of classes with few lack (`metaloom.methods.protonet.excess_of_fit`); training has
none of it. And one λ serves embeddings of any length: they are taken times the root of
`metaloom.methods.model.of_length`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import RidgeSettings
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.model import Head, Params, blank_head, class_weights, classes_seen, of_length, one_hot
from metaloom.methods.protonet import excess_of_fit

REGULARISATION, SCALE = "ridge.regularisation", "ridge.scale"  # networks have a "scale" of their own
FIRST_SCALE = 8.0  # answers to one-hot targets lie between 0 and 1, too close together for a softmax


class Ridge(EmbeddingMethod):
    """Ridge regression on the embeddings, in closed form."""

    settings: RidgeSettings
    test_augmentation = True

    def init(self, generator: torch.Generator) -> Params:
        params = super().init(generator)
        start = {REGULARISATION: self.settings.regularisation, SCALE: FIRST_SCALE}
        own = {name: torch.tensor(math.log(value), device=generator.device) for name, value in start.items()}
        return replace(params, weights=params.weights | own)

    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        head, length = self.balanced_head(params, support_z, support_y, n_way), of_length(support_z.shape[-1])
        member = one_hot(support_y, n_way)
        targets, alike = member.to(support_z.dtype), class_weights(member, support_z.dtype)[support_y, None]
        missed = params.weights[SCALE].exp() - head.logits(support_z)  # of the answer to one's own class
        coefficients = length * alike * missed * targets / params.weights[REGULARISATION].exp()
        reach = coefficients.sum(dim=(-2, -1)) / classes_seen(support_y, n_way).sum()
        return Head(head.weight, head.bias + excess_of_fit(reach, support_z, support_y, n_way))

    def balanced_head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        member = one_hot(support_y, n_way)
        targets, alike = member.to(support_z.dtype), class_weights(member, support_z.dtype)[support_y, None].sqrt()
        scale = math.sqrt(of_length(support_z.shape[-1]))
        solution = ridge_solution(scale * alike * support_z, alike * targets, params.weights[REGULARISATION].exp())
        weight = scale * params.weights[SCALE].exp() * solution.mT
        return Head(weight, blank_head(support_z, support_y, n_way).bias.expand(weight.shape[:-1]))


def ridge_solution(
    x: Float[Tensor, "*task item embed"], y: Float[Tensor, "item n_way"], regularisation: Float[Tensor, ""]
) -> Float[Tensor, "*task embed n_way"]:
    """The W that minimises ‖x·W - y‖² + regularisation · ‖W‖², from whichever system is smaller.

    NaN in, NaN out: the trainer says what to do about it, and a GPU need not wait for a check.
    """
    items, embed = x.shape[-2:]
    gram = x @ x.mT if items <= embed else x.mT @ x
    system = gram + regularisation * torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    target = y if items <= embed else x.mT @ y
    solution, _ = torch.linalg.solve_ex(system, target.expand(*x.shape[:-2], *target.shape[-2:]))
    return x.mT @ solution if items <= embed else solution
