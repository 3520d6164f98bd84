"""What a shared network is: a pure function from weights and examples to embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Network(ABC):
    """A pure function of its weights: `network(weights, x) → (embedding, statistics)`.

    With a leading task axis, x is (task, example, *shape) and each weight either (task, …), one for every task, or
    as `init` makes it, one for all.

    Args:
        shape: of one example, channels first: (channel, height, width) of a picture, (feature,) of a row of numbers.
        width: of the layers; see each network.
        norm: "batch", "group" or "none".
        dropout: share of a layer's outputs that are dropped where a generator is given.
    """

    shape: tuple[int, ...]
    width: int
    norm: str
    dropout: float = 0.0

    convolutions: ClassVar[bool] = False  # whether it has any, which `metaloom.networks.engine` is for
    closed: ClassVar[tuple[str, ...]] = ()  # weights with a closed form, from `starts`: no gradient moves them
    axes: ClassVar[tuple[int, ...]] = (1, 2, 3)  # how many an example may have

    @property
    @abstractmethod
    def embed(self) -> int:
        """Length of an embedding."""

    @property
    def one(self) -> Network:
        """A single network of this shape."""
        return self

    @property
    def plain(self) -> Network:
        """Without the further views that a kind's `with_test_augmentation` has added."""
        return self

    def threads(self, device: torch.device) -> AbstractContextManager[None]:
        """Within it, the processor's threads are where this network needs them most."""
        return nullcontext()

    @abstractmethod
    def init(self, generator: torch.Generator) -> Tensors:
        """Fresh weights on the generator's device."""

    def starts(self, x: Float[Tensor, "item ..."], classes: Int[Tensor, " item"]) -> Iterator[tuple[str, Tensors]]:
        """The `closed` weights as they follow from training examples, each form with its name; validation chooses one.

        Args:
            x: normalised examples.
            classes: of each.
        """
        yield from ()

    @abstractmethod
    def __call__(
        self,
        weights: Tensors,
        x: Float[Tensor, ...],
        statistics: Tensors | None = None,
        *,
        twice: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*task example embed"], Tensors]:
        """Embed normalised examples.

        Args:
            weights: as `init` makes them, or stacked over tasks.
            x: (*task, example, *shape).
            statistics: batch norm's means and variances to use; None takes those of each task's examples.
            twice: the gradient is going to be differentiated again, or the returned statistics are used.
            generator: draws what is dropped; None drops nothing.

        Returns:
            The embeddings and the statistics that were used (none unless the norm is "batch").
        """


class Pooled(NamedTuple):
    """What a CPU's block hands on: max-pooled maps, and the sum and sum of squares of all pixels before pooling.

    Args:
        maps: 2×2 maxima.
        total: of each example and channel.
        squares: likewise.
    """

    maps: Float[Tensor, "example out height width"]
    total: Float[Tensor, "example out"]
    squares: Float[Tensor, "example out"]
