"""What a shared network is: a pure function from weights and examples to embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Network(ABC):
    """A pure function of its weights: `network(weights, x) → (embedding, statistics)`.

    With a leading task axis, x is (task, example, …) and each weight either (task, …), one for every task, or
    as `init` makes it, one for all.

    Args:
        channels: of the square input.
        image_size: its side, in pixels.
        width: of the layers; see each network.
        norm: "batch", "group" or "none".
        dropout: share of a layer's outputs that are dropped where a generator is given.
    """

    channels: int
    image_size: int
    width: int
    norm: str
    dropout: float = 0.0

    @property
    @abstractmethod
    def embed(self) -> int:
        """Length of an embedding."""

    @property
    def one(self) -> Network:
        """A single network of this shape."""
        return self

    def threads(self, device: torch.device) -> AbstractContextManager[None]:
        """Within it, the processor's threads are where this network needs them most."""
        return nullcontext()

    @abstractmethod
    def init(self, generator: torch.Generator) -> Tensors:
        """Fresh weights on the generator's device."""

    @abstractmethod
    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, "*task example channel height width"],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        """Embed normalised images.

        Args:
            weights: as `init` makes them, or stacked over tasks.
            x: images.
            statistics: batch norm's means and variances to use; None takes those of each task's examples.
            twice: the gradient is going to be differentiated again, or the returned statistics are used.
            generator: draws what is dropped; None drops nothing.

        Returns:
            The embeddings and the statistics that were used (none unless the norm is "batch").
        """
