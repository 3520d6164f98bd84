"""Model-agnostic meta-learning.

Finn, Abbeel, Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, 2017
(https://arxiv.org/abs/1703.03400). A task's weights are a few gradient steps on its support set away from the
shared ones, θ' = θ - α∇L(θ); the shared ones minimise the query loss after those steps, through them.
θ: `params.weights`, α: `inner_rate`, number of steps: `inner_steps`; `first_order` drops the second
derivatives (section 5.2).

We deviate in two places. The head starts as one learned vector for every class (Ye, Chao: How to Train Your
MAML to Excel in Few-Shot Classification, 2022, https://arxiv.org/abs/2106.16245), so that one model serves any
number of ways. Batch norm takes the support set's statistics for the queries too: published figures mostly
take the queries' own, which makes a prediction depend on its neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import MamlSettings
from metaloom.methods.base import Head, Method, Params, TaskModel
from metaloom.networks import Network, Tensors

HEAD = "head"


class Maml(Method):
    settings: MamlSettings

    def __init__(self, network: Network, settings: MamlSettings) -> None:
        super().__init__(network, settings)

    def init(self, generator: torch.Generator) -> Params:
        head = torch.zeros(self.network.embed, device=generator.device)
        return Params(self.network.init(generator) | {HEAD: head}, {})

    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, "*task support channel height width"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        stacked = support_x if support_x.dim() == 5 else support_x[None]
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            weights = self._start(params, len(stacked), n_way, training)
            for _ in range(self.settings.inner_steps):
                weights = self._step(weights, stacked, support_y, training)
        with torch.set_grad_enabled(training):
            statistics = self.network(weights, stacked)[1] if self.settings.norm == "batch" else {}
        if support_x.dim() == 4:
            weights, statistics = ({k: v[0] for k, v in each.items()} for each in (weights, statistics))
        head = Head(weights.pop("head.weight"), weights.pop("head.bias"))
        return TaskModel(self.network, weights, statistics, head)

    def _start(self, params: Params, tasks: int, n_way: int, training: bool) -> Tensors:
        """The shared weights, for every task; the head is one learned vector for every class."""
        shared = params.weights if training else {k: v.detach().requires_grad_() for k, v in params.weights.items()}
        weights = {name: weight.expand(tasks, *weight.shape) for name, weight in shared.items()}
        head = weights.pop(HEAD).unsqueeze(1).expand(-1, n_way, -1)
        return weights | {"head.weight": head, "head.bias": torch.zeros_like(head[..., 0], requires_grad=True)}

    def _step(self, weights: Tensors, x: Tensor, y: Tensor, training: bool) -> Tensors:
        second_order = training and not self.settings.first_order
        embedding, _ = self.network(weights, x, twice=second_order)
        logits = Head(weights["head.weight"], weights["head.bias"]).logits(embedding)
        loss = F.cross_entropy(logits.flatten(0, 1), y.repeat(len(x)), reduction="sum") / len(y)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
        return {
            name: weight - self.settings.inner_rate * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
