"""A gated recurrent unit over a sequence; a picture is read row by row.

Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder, 2014 (https://arxiv.org/abs/1406.1078), in
the form of cuDNN and torch.nn.GRU, whose reset gate r acts after the matrix of the state h:
n = tanh(W_n x + b_n + r ∘ (U_n h + c_n)), h ← z ∘ h + (1 - z) ∘ n. W: `input`, b: `shift`, U: `state`,
c: `state.shift`, each with the rows of r, z and n in this order.

The norm is over what goes from the input to the gates, for all time steps together (Laurent et al.: Batch
Normalized Recurrent Neural Networks, 2016, https://arxiv.org/abs/1510.01378, equation 8). Batch norm between the
states would need statistics for every time step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Network, Tensors
from metaloom.networks.layers import dropped, full, init_norm, linear, normalise

GATES = 3


@dataclass(frozen=True)
class Gru(Network):
    """Width: units of the state."""

    axes: ClassVar[tuple[int, ...]] = (3,)

    @property
    def embed(self) -> int:
        return self.width

    @property
    def features(self) -> int:
        """How many numbers one time step has: a row of the picture in all channels."""
        return self.shape[0] * self.shape[-1]

    def init(self, generator: torch.Generator) -> Tensors:
        """Inputs scaled to unit variance, the state's matrix and shift uniform as in torch, norms at one and zero."""
        gates, device = GATES * self.width, generator.device
        bound = 1 / math.sqrt(self.width)
        weights = {
            "input": torch.randn(gates, self.features, generator=generator, device=device) / math.sqrt(self.features),
            "state": (torch.rand(gates, self.width, generator=generator, device=device) * 2 - 1) * bound,
            "state.shift": (torch.rand(gates, generator=generator, device=device) * 2 - 1) * bound,
        }
        return weights | init_norm(self.norm, gates, "", device)

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, "*task example channel height width"],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        rows = x.movedim(-3, -2).flatten(-2)
        return self.read(weights, rows, statistics, twice=twice, generator=generator)

    def read(
        self,
        weights: Tensors,
        x: Float[Tensor, "*task example time feature"],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        """Embed sequences of any kind, as the mean of their states; the rest is as for a call."""
        used: Tensors = {}
        inputs = linear(x.flatten(-3, -2), weights["input"]).unflatten(-2, x.shape[-3:-1])
        inputs = normalise(self.norm, inputs.mT, weights, "", statistics, used, pixels=1, twice=twice).mT
        states = unrolled(full(inputs), weights["state"], weights["state.shift"])
        return dropped(states.mean(dim=-2), self.dropout, generator), used


def unrolled(
    inputs: Float[Tensor, "*task example time gates"],
    matrix: Float[Tensor, "*any gates state"],
    shift: Float[Tensor, "*any gates"],
) -> Float[Tensor, "*task example time state"]:
    """The states after each time step, from zero; products and sums alone, so differentiable any number of times.

    Args:
        inputs: what goes from each time step's input to the gates r, z and n.
        matrix: from the state to the gates, one for all or one for each task.
        shift: likewise.
    """
    state = inputs.new_zeros(*inputs.shape[:-2], matrix.shape[-1])
    states = []
    for step in inputs.unbind(dim=-2):
        own = linear(state, matrix) + shift.unsqueeze(-2)
        (reset_x, keep_x, new_x), (reset_h, keep_h, new_h) = (each.chunk(GATES, dim=-1) for each in (step, own))
        keep = torch.sigmoid(keep_x + keep_h)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        state = new + keep * (state - new)
        states.append(state)
    return torch.stack(states, dim=-2)
