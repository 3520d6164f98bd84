"""Almost no inner loop.

Raghu, Raghu, Bengio, Vinyals: Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML,
2020 (https://arxiv.org/abs/1909.09157). As MAML, but the inner steps move the head alone (section 4): what MAML
learns is mostly good features. `inner_steps`, `inner_rate`: of the head's gradient descent on the support set;
`first_order` takes the support embeddings in its gradients as constants.

We deviate in one place: the head starts at zero instead of a learned start for each class, so that one model serves
any number of ways. A learned start that all classes share would change nothing (`metaloom.methods.gradient`).
As all that happens is linear in the head's distance from zero, β scales the logits: it changes how sure the
model is, not what it predicts.
"""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import AnilSettings
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.gradient import HEAD, head_of, interpolated
from metaloom.methods.head_fit import fit_head
from metaloom.methods.model import Head, Params, blank_head, of_length, of_ways
from metaloom.networks import Tensors


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
        z = support_z.detach() if self.settings.first_order else support_z
        scale = math.sqrt(of_length(z.shape[-1]))  # one inner rate for embeddings of any length
        start = blank_head(z, support_y, n_way)
        rate = self.settings.inner_rate * of_ways(support_y, n_way)
        fitted = fit_head(start, scale * z, support_y, self.settings.inner_steps, rate)
        head: Tensors = dict(zip(HEAD, (scale * fitted.weight, fitted.bias), strict=True))
        return head_of(interpolated({}, head, self.settings))
