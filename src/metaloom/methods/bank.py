"""A bank of shared networks for many different tasks (a "sliding window network").

Each member is a prototypical network (`metaloom.methods.protonet`) that has been trained on one window of
similar domains (`metaloom.training.bank.windows`). A router weighs the members by the support set alone, and the
task model's logits are the weighted sum of theirs, Σ wᵢ·logitsᵢ: a product of experts (Hinton: Training Products
of Experts by Minimizing Contrastive Divergence, 2002, https://doi.org/10.1162/089976602760128018, section 1) whose
exponents add up to one. `route: pick` takes the best member alone, so that a query costs one network.

The router's score of a member is -d² - ℓ, and w = softmax(sharpness · score):
d², how far the support set is from the member's window: the squared distance of its mean embedding from that
of the window's examples, in units of their own spread. It needs no labels, and works with one shot.
ℓ, how well the member solves the task: the NLL in nats of the support examples, each classified by the
prototypes of the others, over those whose class has another.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.config import BankSettings
from metaloom.methods.embedding import EmbeddingMethod
from metaloom.methods.model import ROUTER, Episodes, Head, Params, TaskModel, bias_of_unseen, classes_seen, one_hot
from metaloom.methods.protonet import ProtoNet, prototypes_of
from metaloom.networks import Network, Tensors
from metaloom.networks.bank import BIAS, GAIN, BankNetwork, of_member, prefix, seen_by

MEAN, SPREAD, SHARPNESS = (f"{ROUTER}{name}" for name in ("mean", "spread", "sharpness"))


class Bank(EmbeddingMethod):
    """A fresh one has a single member: it is what the trainer trains, once for each window."""

    settings: BankSettings
    test_augmentation = True
    network: BankNetwork

    def __init__(self, network: Network, settings: BankSettings, members: int = 1) -> None:
        super().__init__(BankNetwork.of(network, members), settings)
        self.member = ProtoNet(network, settings)

    def init(self, generator: torch.Generator) -> Params:
        members, device = self.network.members, generator.device
        each = [self.member.init(generator) for _ in range(members)]
        ones = torch.ones(members, self.network.shape[0], device=device)
        router = {
            MEAN: torch.zeros(members, self.network.member.embed, device=device),
            SPREAD: torch.ones(members, device=device),
            SHARPNESS: torch.ones((), device=device),
        }
        inputs = {GAIN: ones, BIAS: torch.zeros_like(ones)}
        return Params(_named([p.weights for p in each]), _named([p.statistics for p in each]) | inputs | router)

    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        z = self.embed(params, support_x)
        share, head = self._routed(params, z, support_y, n_way)
        needed = params.task_statistics()
        if self.settings.route == "mix":
            return TaskModel(self.network, params.weights, needed, head)
        choice = share.argmax(dim=-1)
        weights, statistics = (_named([self._picked(group, choice)]) for group in (params.weights, needed))
        statistics |= {name: _chosen(needed[name], choice).unsqueeze(-2) for name in (GAIN, BIAS)}
        # the others' part of the head is zero
        own = Head(head.weight.unflatten(-1, (self.network.members, -1)).sum(dim=-2), head.bias)
        return TaskModel(BankNetwork.of(self.network.member, 1), weights, statistics, own)

    def head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        """The members' heads side by side, each times its member's share."""
        return self._routed(params, support_z, support_y, n_way)[1]

    def loss(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], Params]:
        """The mean of the members' losses: none learns from another."""
        losses, moved = [], []
        for index in range(self.network.members):
            examples = (
                seen_by(params.statistics, index, x, len(self.network.shape))
                for x in (episodes.support_x, episodes.query_x)
            )
            own = replace(episodes, **dict(zip(("support_x", "query_x"), examples, strict=True)))
            loss, after = self.member.loss(self._of(params, index), own, generator, progress)
            losses.append(loss)
            moved.append(after.statistics)
        return torch.stack(losses).mean(), replace(params, statistics=params.statistics | _named(moved))

    def scores(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Float[Tensor, "*task member"]:
        """What the router thinks of each member; the higher the better."""
        z = support_z.unflatten(-1, (self.network.members, -1))  # (*task, support, member, embed)
        far = (z.mean(dim=-3) - params.statistics[MEAN]).square().sum(dim=-1) / params.statistics[SPREAD]
        loss = [
            left_out_nll(self.member, self._of(params, index), part, support_y, n_way)
            for index, part in enumerate(z.unbind(dim=-2))
        ]
        return -far - torch.stack(loss, dim=-1)

    def _routed(
        self, params: Params, z: Float[Tensor, "*task support embed"], y: Int[Tensor, " support"], n_way: int
    ) -> tuple[Float[Tensor, "*task member"], Head]:
        """The members' shares, and the head that they make."""
        scores = self.scores(params, z, y, n_way)
        if self.settings.route == "pick":
            share = one_hot(scores.argmax(dim=-1), self.network.members).to(scores.dtype)
        else:
            share = (params.statistics[SHARPNESS] * scores).softmax(dim=-1)
        parts = z.chunk(self.network.members, dim=-1)
        heads = [self.member.head(self._of(params, index), part, y, n_way) for index, part in enumerate(parts)]
        weights = [own.weight * w[..., None, None] for own, w in zip(heads, share.unbind(dim=-1), strict=True)]
        biases = [own.bias * w[..., None] for own, w in zip(heads, share.unbind(dim=-1), strict=True)]
        return share, Head(torch.cat(weights, dim=-1), torch.stack(biases).sum(dim=0))

    def _of(self, params: Params, index: int) -> Params:
        return Params(of_member(params.weights, index), of_member(params.statistics, index))

    def _picked(self, tensors: Tensors, choice: Int[Tensor, "*task"]) -> Tensors:
        """The chosen member's own, or those of each task's."""
        each = [of_member(tensors, index) for index in range(self.network.members)]
        return {name: _chosen(torch.stack([own[name] for own in each]), choice) for name in each[0]}


def _chosen(stacked: Tensor, choice: Int[Tensor, "*task"]) -> Tensor:
    """stacked[choice], without asking the device what was chosen."""
    return stacked.index_select(0, choice.flatten()).view(*choice.shape, *stacked.shape[1:])


def _named(members: list[Tensors]) -> Tensors:
    return {f"{prefix(index)}{name}": tensor for index, own in enumerate(members) for name, tensor in own.items()}


def left_out_nll(
    method: ProtoNet,
    params: Params,
    z: Float[Tensor, "*task support embed"],
    y: Int[Tensor, " support"],
    n_way: int,
) -> Float[Tensor, "*task"]:
    """Mean NLL of support examples under the prototypes of the others; 0 where no class has a second example."""
    count = (y == y[:, None]).sum(dim=1).to(z.dtype)  # of the example's class
    others = (count - 1).clamp(min=1)[:, None]
    without = (count[:, None] * prototypes_of(z, y, n_way)[..., y, :] - z) / others
    own = method.head_from(params, without)  # one way an example
    own_logit = (own.weight * z).sum(dim=-1) + own.bias
    plain = method.head_from(params, prototypes_of(z, y, n_way))
    logits = Head(plain.weight, plain.bias + bias_of_unseen(classes_seen(y, n_way))).logits(z)
    logits = torch.where(one_hot(y, n_way), own_logit[..., None], logits)
    nll = torch.logsumexp(logits, dim=-1) - own_logit
    counts = (count > 1).to(z.dtype)
    return (nll * counts).sum(dim=-1) / counts.sum().clamp(min=1)
