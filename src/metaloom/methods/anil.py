"""Almost no inner loop.

Raghu, Raghu, Bengio, Vinyals: Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML,
2020 (https://arxiv.org/abs/1909.09157). As MAML, but the inner steps move the head alone (section 4): what MAML
learns is mostly good features. `inner_steps`, `inner_rate`: of the head's gradient descent on the support set;
`first_order` takes the support embeddings in its gradients as constants.

We deviate in two places. The head starts at the prototypes or at zero (`head`, `metaloom.methods.gradient`) instead of
a learned start for each class, so that one model serves any number of ways. From zero β scales the logits: it changes
how sure the model is, not what it predicts. And in training the examples of a task may take turns as support
(`take_turns`, `metaloom.methods.embedding`).
"""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import AnilSettings
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.gradient import first_head, head_of, interpolated, named
from metaloom.methods.head_fit import fit_head
from metaloom.methods.model import Head, Params, of_length, of_ways


class Anil(EmbeddingMethod):
    """Gradient steps on the head alone."""

    settings: AnilSettings

    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        start = first_head(self.settings, support_z, support_y, n_way)
        scale = math.sqrt(of_length(support_z.shape[-1]))  # one inner rate for embeddings of any length
        z = scale * (support_z.detach() if self.settings.first_order else support_z)
        rate = self.settings.inner_rate * of_ways(support_y, n_way)
        fitted = fit_head(Head(start.weight / scale, start.bias), z, support_y, self.settings.inner_steps, rate).head
        head = Head(scale * fitted.weight, fitted.bias)
        return head_of(interpolated(named(start), named(head), self.settings))
