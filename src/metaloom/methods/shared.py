"""A shared network: one classifier trained jointly over all tasks, a new head fitted for the next one.

Chen, Liu, Kira, Wang, Huang: A Closer Look at Few-shot Classification, 2019 (https://arxiv.org/abs/1904.04232),
section 3.2, call it Baseline. While training, a linear head over all training classes (`heads: all`), or one for
each domain (`heads: domain`), stands on the network f, and both minimise the NLL of single examples: no episodes
but to draw the examples. To adapt, the head is thrown away and a new one fitted to the support embeddings:
`inner_steps` of gradient descent with `inner_rate` from zero, then W ← W₀ + β·(W_fitted - W₀), where W₀ = 0
is the start.

We deviate in two places: the new head is fitted to embeddings divided by their root mean square length in the
support set, so that one inner rate serves every network; the head that comes out has that scale folded in. And where
classes have unlike numbers of examples, the bias makes up for it (`metaloom.methods.protonet.excess_of_fit`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import SharedSettings
from metaloom.errors import MetaloomError
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.head_fit import fit_head
from metaloom.methods.model import TRAINING, Episodes, Head, Params, blank_head, class_weights, of_ways, one_hot
from metaloom.methods.protonet import excess_of_fit
from metaloom.networks import Tensors

WEIGHT, BIAS = f"{TRAINING}head.weight", f"{TRAINING}head.bias"


class Shared(EmbeddingMethod):
    """One network for all training classes; a task gets a new head."""

    settings: SharedSettings

    def training_weights(self, generator: torch.Generator, classes: int) -> Tensors:
        """The head over the training classes; that of a domain is its rows."""
        shape = (classes, self.network.embed)
        weight = torch.randn(shape, generator=generator, device=generator.device) / math.sqrt(self.network.embed)
        return {WEIGHT: weight, BIAS: torch.zeros(classes, device=generator.device)}

    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        alike = class_weights(one_hot(support_y, n_way), support_z.dtype)[support_y]
        length = (support_z.square().sum(dim=-1) * alike).mean(dim=-1).sqrt().clamp(min=1e-6)[..., None, None]
        start = blank_head(support_z, support_y, n_way)
        rate = self.settings.inner_rate * of_ways(support_y, n_way)
        z = support_z / length
        fitted, reach = fit_head(start, z, support_y, self.settings.inner_steps, rate)
        bias = fitted.bias + excess_of_fit(reach, z, support_y, n_way)
        beta = 1.0 if self.settings.beta == "auto" else self.settings.beta  # auto: plain until one is chosen
        return Head(beta * fitted.weight / length, beta * bias)

    def loss(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], Params]:
        """Mean NLL of every example, support and query alike, among all training classes or those of its domain."""
        examples = torch.cat([episodes.support_x, episodes.query_x], dim=1)
        z, statistics = self.network(params.weights, examples, generator=generator)
        classes, own = self._of_training(params, episodes)
        logits = classes.logits(z.flatten(0, 1))
        if self.settings.heads == "domain":
            domains = self._domains(episodes)
            logits = logits.masked_fill(domains[own][:, None] != domains, -math.inf)
        return F.cross_entropy(logits, own), self.moved(params, statistics)

    def chance(self, classes: int) -> float:
        return math.log(classes) if self.settings.heads == "all" else math.nan

    @staticmethod
    def _of_training(params: Params, episodes: Episodes) -> tuple[Head, Int[Tensor, " example"]]:
        """The head over the training classes, and the training class of each example of all tasks."""
        if WEIGHT not in params.weights or episodes.classes is None:
            raise ValueError("shared trains with Method.training_weights, on episodes that know their classes")
        ways = torch.cat([episodes.support_y, episodes.query_y])
        return Head(params.weights[WEIGHT], params.weights[BIAS]), episodes.classes[:, ways].flatten()

    def _domains(self, episodes: Episodes) -> Int[Tensor, " class"]:
        if episodes.domains is None:
            raise MetaloomError(
                f"params.yaml: {self.settings.section}.heads is domain, but the training classes have no domains: "
                "set all"
            )
        return episodes.domains
