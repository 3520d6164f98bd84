"""Prototypical networks.

Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, 2017 (https://arxiv.org/abs/1703.05175).
A class is the mean embedding of its support examples (its prototype c_k), and a query f(x) goes to the nearest:
p(y=k|x) = softmax(-‖f(x) - c_k‖²). As ‖f(x)‖² is the same for all classes it drops out, and what is left is
a linear head, 2·c_k·f(x) - ‖c_k‖² (the paper's section 2.4).

With a learned temperature the logits are -τ·‖f(x) - c_k‖²: Oreshkin, Rodríguez, Lacoste: TADAM: Task dependent
adaptive metric for improved few-shot learning, 2018 (https://arxiv.org/abs/1805.10123), section 2.1, where τ is
called α. The weight `temperature` is log τ, so that τ starts at 1 and stays positive.

Distances of embeddings longer than 64 numbers are multiplied by 64 over that length
(`metaloom.methods.model.of_length`).

Where classes have unlike numbers of examples we deviate: a mean of few examples is off by more, and so farther from
everything, its own class's queries too. Over support sets ‖f(x) - c_k‖² has the expectation of the distance to the
class's true mean plus σ²/n_k, where σ² is the mean squared distance of a class's examples from its true mean. What a
class has more of that than the class with most examples is taken off its distances.

In the paper an episode's support set is the same for all of its queries. With `take_turns` every example is support in
one turn and a query in the others, for the same embeddings: Laenen, Bertinetto: On Episodes, Prototypical Networks, and
Few-Shot Learning, 2021 (https://arxiv.org/abs/2012.09831), find that episodes waste the other pairs of a batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import ProtonetSettings
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.model import Head, Params, TaskModel, bias_of_unseen, classes_seen, of_length, one_hot

TEMPERATURE = "temperature"


class ProtoNet(EmbeddingMethod):
    """A class is the mean embedding of its examples."""

    settings: ProtonetSettings
    test_augmentation = True

    def init(self, generator: torch.Generator) -> Params:
        params = super().init(generator)
        if self.settings.temperature == "fixed":
            return params
        return replace(params, weights=params.weights | {TEMPERATURE: torch.zeros((), device=generator.device)})

    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        return self._tempered(params, prototype_head(support_z, support_y, n_way))

    def balanced_head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        return self.head_from(params, prototypes_of(support_z, support_y, n_way))

    def adapt_weighted(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
        weights: Float[Tensor, " support"],
    ) -> TaskModel:
        head = weighted_prototype_head(self.embed(params, support_x), support_y, n_way, weights)
        return TaskModel(self.network, params.weights, params.statistics, self._tempered(params, head))

    def head_from(self, params: Params, prototypes: Float[Tensor, "*task way embed"]) -> Head:
        """The squared distances to prototypes as a linear head."""
        return self._tempered(params, _distances(prototypes))

    def _tempered(self, params: Params, head: Head) -> Head:
        if self.settings.temperature == "fixed":
            return head
        tau = params.weights[TEMPERATURE].exp()
        return Head(tau * head.weight, tau * head.bias)


def prototype_head(
    support_z: Float[Tensor, "*task support embed"], support_y: Int[Tensor, " support"], n_way: int
) -> Head:
    """The squared distances to the classes' prototypes, less their excess, as a linear head."""
    prototypes = prototypes_of(support_z, support_y, n_way)
    head = _distances(prototypes, excess_of(support_z, support_y, prototypes))
    return Head(head.weight, head.bias + bias_of_unseen(classes_seen(support_y, n_way)))


def weighted_prototype_head(
    support_z: Float[Tensor, "support embed"],
    support_y: Int[Tensor, " support"],
    n_way: int,
    weights: Float[Tensor, " support"],
) -> Head:
    """`prototype_head` of a support set in which each example stands as often as its weight says, parts of one too."""
    member = one_hot(support_y, n_way).to(support_z.dtype) * weights[:, None]
    count = member.sum(dim=0)
    prototypes = member.mT @ support_z / count[:, None]
    inside = (weights * (support_z - prototypes[support_y]).square().sum(dim=-1)).sum()
    variance = inside / (count - 1).clamp(min=0).sum().clamp(min=1)
    share = 1 / count.clamp(min=1)
    return _distances(prototypes, variance * (share - share.min()))


def _distances(prototypes: Tensor, excess: Tensor | float = 0.0) -> Head:
    scale = of_length(prototypes.shape[-1])
    return Head(2 * scale * prototypes, scale * (excess - prototypes.square().sum(dim=-1)))


def prototypes_of(
    support_z: Float[Tensor, "*task support embed"], support_y: Int[Tensor, " support"], n_way: int
) -> Float[Tensor, "*task {n_way} embed"]:
    """Mean embedding of each class; zero for one without an example."""
    member = (support_y == torch.arange(n_way, device=support_y.device)[:, None]).to(support_z.dtype)
    return member @ support_z / member.sum(dim=1, keepdim=True).clamp(min=1)


def excess_of(
    support_z: Float[Tensor, "*task support embed"],
    support_y: Int[Tensor, " support"],
    prototypes: Float[Tensor, "*task way embed"],
) -> Float[Tensor, "*task way"]:
    """How much larger squared distances to each prototype are, on the average, than those to the prototype of the class
    with most examples; a constant, as it is zero where all have as many, which is so in training."""
    with torch.no_grad():
        count = one_hot(support_y, prototypes.shape[-2]).sum(dim=0).to(support_z.dtype)
        inside = (support_z - prototypes[..., support_y, :]).square().sum(dim=(-2, -1))
        variance = inside / (count - 1).clamp(min=0).sum().clamp(min=1)
        share = 1 / count.clamp(min=1)
        return variance[..., None] * (share - share.amin(dim=-1, keepdim=True))


def excess_of_fit(
    reach: Float[Tensor, "*task"],
    support_z: Float[Tensor, "*task support embed"],
    support_y: Int[Tensor, " support"],
    n_way: int,
) -> Float[Tensor, "*task {n_way}"]:
    """The same for a head that was fitted to the support set: what a class's score lacks at a query, for its few
    examples, beside the class with most.

    A class's weight is a sum of examples. With coefficients that add up to `reach` over the n examples of a class, each
    of these has about reach/n · σ² more of its own class's score than a query has, and a fit takes the scores of all
    classes' examples to the same height. Half of what that differs by is given back: then the border between two
    classes lies in the middle. For prototypes, whose reach is 2, it is what `excess_of` says.

    Args:
        reach: of the fit, the mean over the classes.
    """
    return reach.detach()[..., None] / 2 * excess_of(support_z, support_y, prototypes_of(support_z, support_y, n_way))
