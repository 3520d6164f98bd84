"""Test-time augmentation: a network sees a picture five times when it answers, where it is and moved to four sides."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from metaloom.networks.base import Network, Tensors


@dataclass(frozen=True)
class Shifted(Network):
    """Where statistics are given (in answers, not in training) an embedding is the mean of five.

    Pooling sees a picture differently when it is moved by a pixel; the mean does less so. What comes in from beyond
    an edge is the edge's own pixels.

    Args:
        network: that sees them.
        shift: pixels by which the picture is moved.
    """

    network: Network = None  # type: ignore[assignment]  # fields before it have defaults; `of` always sets it
    shift: int = 1

    @classmethod
    def of(cls, network: Network, shift: int) -> Network:
        """A network that sees shifted pictures too; with a shift of zero the network itself."""
        plain = network.plain
        shape = (plain.shape, plain.width, plain.norm, plain.dropout)
        return cls(*shape, network=plain, shift=shift) if shift else plain

    @property
    def plain(self) -> Network:
        return self.network

    @property
    def embed(self) -> int:
        return self.network.embed

    @property
    def one(self) -> Network:
        return self.network.one

    def threads(self, device: torch.device) -> AbstractContextManager[None]:
        return self.network.threads(device)

    def init(self, generator: torch.Generator) -> Tensors:
        return self.network.init(generator)

    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, "*task example channel height width"],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        views = [x] if statistics is None else self._views(x)
        parts = [self.network(weights, view, statistics, twice=twice, generator=generator) for view in views]
        _, used = parts[0]
        return torch.stack([z for z, _ in parts]).mean(dim=0), used

    def _views(self, x: Tensor) -> list[Tensor]:
        shift, size, lead = self.shift, self.shape[-1], x.shape[:-3]
        padded = F.pad(x.reshape(-1, *x.shape[-3:]), [shift] * 4, mode="replicate")
        padded = padded.reshape(*lead, *padded.shape[-3:])
        return [
            padded[..., shift + down : shift + down + size, shift + right : shift + right + size]
            for down, right in ((0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift))
        ]
