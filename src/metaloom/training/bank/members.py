"""Join one-member banks, and split them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.kinds.encoding import Encoding
from metaloom.learner.learner import BATCH, Learner
from metaloom.learner.placement import picked
from metaloom.learner.scoring import scores
from metaloom.methods.bank import MEAN, SHARPNESS, SPREAD, Bank
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.model import Params
from metaloom.networks import Tensors
from metaloom.networks.bank import BIAS, GAIN, of_member, prefix
from metaloom.tasks import EpisodeTable

SHARPNESSES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # 0: all members alike


def with_moments(method: EmbeddingMethod, one: Params, x: Float[Tensor, "item ..."]) -> Params:
    """A bank of one that knows where its window lies: mean and total variance of its examples' embeddings."""
    with torch.no_grad():
        z = torch.cat([method.embed(one, part) for part in x.split(BATCH)])
    spread = z.var(dim=0, correction=0).sum().clamp(min=1e-12)
    return replace(one, statistics=one.statistics | {MEAN: z.mean(dim=0)[None], SPREAD: spread[None]})


def joined(ones: Sequence[Params], own: Sequence[Encoding], shared: Encoding) -> Params:
    """A bank from banks of one.

    Args:
        ones: each with one member.
        own: the encoding that each was trained with.
        shared: that of the bank; the members' inputs are brought back from it to their own.

    Raises:
        MetaloomError: the kind of example cannot bring them back.
    """
    inputs = [found for each in own if (found := each.inputs_from(shared))]
    if len(inputs) < len(ones):
        raise MetaloomError(f"a bank does not take {shared.kind.many}: leave bank out of methods")
    weights: Tensors = {}
    statistics: Tensors = {SHARPNESS: torch.ones_like(ones[0].statistics[SHARPNESS])}
    for index, one in enumerate(ones):
        weights |= {prefix(index) + name: tensor for name, tensor in of_member(one.weights, 0).items()}
        statistics |= {prefix(index) + name: tensor for name, tensor in of_member(one.statistics, 0).items()}
    for name in (MEAN, SPREAD):
        statistics[name] = torch.cat([one.statistics[name] for one in ones])
    like = ones[0].statistics[GAIN]
    gain, bias = (torch.stack(each).to(like) for each in zip(*inputs, strict=True))
    return Params(weights, statistics | {GAIN: gain, BIAS: bias})


def one_of(bank: Params, index: int) -> Params:
    """A member as the bank of one that it was."""
    weights, statistics = (
        {prefix(0) + name: tensor for name, tensor in of_member(group, index).items()}
        for group in (bank.weights, bank.statistics)
    )
    statistics |= {name: bank.statistics[name][index : index + 1] for name in (MEAN, SPREAD)}
    ones = torch.ones_like(bank.statistics[GAIN][:1])
    plain = {GAIN: ones, BIAS: torch.zeros_like(ones), SHARPNESS: torch.ones_like(bank.statistics[SHARPNESS])}
    return Params(weights, statistics | plain)


def calibrated(learner: Learner, examples: Shaped[Tensor, "item ..."], episodes: EpisodeTable) -> Learner:
    """The bank with the sharpness of its mixture that gives the least NLL on fixed (validation) episodes."""
    method, params = cast(Bank, learner.method), learner.params
    ways, shots = episodes.support.shape[1:]
    labels = torch.arange(ways, device=learner.device).repeat_interleave(shots)
    with torch.no_grad():
        support, query = (
            torch.stack([method.embed(params, learner.encoding(picked(examples, row, learner.device))) for row in rows])
            for rows in (torch.as_tensor(r).flatten(1) for r in (episodes.support, episodes.query))
        )
        nll = {
            sharp: float(scores(_answers(method, sharp_of, support, query, labels, ways), episodes)[1].mean())
            for sharp, sharp_of in ((sharp, _with_sharpness(params, sharp)) for sharp in SHARPNESSES)
        }
    return replace(learner, params=_with_sharpness(params, min(nll, key=lambda sharp: nll[sharp])))


def _with_sharpness(params: Params, sharpness: float) -> Params:
    value = torch.full_like(params.statistics[SHARPNESS], sharpness)
    return replace(params, statistics=params.statistics | {SHARPNESS: value})


def _answers(
    method: Bank, params: Params, support: Tensor, query: Tensor, labels: Tensor, n_way: int
) -> Float[Tensor, "episode query n_way"]:
    return method.head(params, support, labels, n_way).logits(query).log_softmax(dim=-1)
