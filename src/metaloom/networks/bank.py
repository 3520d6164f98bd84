"""Several networks of one shape, side by side."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Network, Tensors

GAIN, BIAS = "input.gain", "input.bias"


@dataclass(frozen=True)
class BankNetwork(Network):
    """The members' embeddings of the same examples, one after the other.

    Member i's weights and statistics are named "member.{i}.…". Where statistics are given, they also hold the
    inputs that each member is used to, as a gain and a bias for each channel (see `seen_by`).

    Args:
        member: the shape of every member.
        members: how many.
    """

    member: Network = None  # type: ignore[assignment]  # fields before it have defaults; `of` always sets it
    members: int = 1

    @classmethod
    def of(cls, member: Network, members: int) -> BankNetwork:
        """A bank of so many networks of the member's shape."""
        shape = (member.shape, member.width, member.norm, member.dropout)
        return cls(*shape, member=member, members=members)

    @property
    def embed(self) -> int:
        return self.members * self.member.embed

    @property
    def one(self) -> Network:
        return self.member.one

    def threads(self, device: torch.device) -> AbstractContextManager[None]:
        return self.member.threads(device)

    def init(self, generator: torch.Generator) -> Tensors:
        return {
            f"{prefix(index)}{name}": weight
            for index in range(self.members)
            for name, weight in self.member.init(generator).items()
        }

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, ...],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        parts, used = [], {}
        for index in range(self.members):
            own = None if statistics is None else of_member(statistics, index)
            seen = x if statistics is None else seen_by(statistics, index, x, len(self.shape))
            z, moments = self.member(of_member(weights, index), seen, own, twice=twice, generator=generator)
            parts.append(z)
            used |= {f"{prefix(index)}{name}": value for name, value in moments.items()}
        return torch.cat(parts, dim=-1), used


def prefix(index: int) -> str:
    """What begins the names of a member's tensors."""
    return f"member.{index}."


def of_member(tensors: Tensors, index: int) -> Tensors:
    """One member's own, under its own names."""
    start = prefix(index)
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def seen_by(statistics: Tensors, index: int, x: Float[Tensor, ...], axes: int) -> Float[Tensor, ...]:
    """The examples as a member is used to them: x · gain + bias, (*task, member, channel) each.

    Args:
        x: (*task, example, channel, …).
        axes: of one example, the channel's included.
    """
    spread = (..., *[None] * (axes - 1))
    gain, bias = (statistics[name][..., index, :].unsqueeze(-2)[spread] for name in (GAIN, BIAS))
    return x * gain + bias
