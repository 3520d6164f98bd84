"""What an encoding is: it turns packed examples into what a network takes, outside and inside an ONNX graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float32, Shaped

from metaloom.errors import MetaloomError
from metaloom.kinds.base import Kind

if TYPE_CHECKING:
    import onnx
    from torch import Tensor


class Encoding(ABC):
    """Packed examples to a network's input, with numbers that were fitted on training classes."""

    kind: Kind
    dtype: ClassVar[str]  # of packed examples, in numpy's words
    negative_remedy: ClassVar[str] = ""  # how a caller turns packed examples that look inverted, for a message
    extreme: ClassVar[tuple[str, ...]] = ()  # of `golden`: they magnify rounding, so no question for smaller graphs
    grafted: ClassVar[bool] = False  # whether `graft` has something to put before a graph
    variable: ClassVar[tuple[int, ...]]  # axes of a batch of raw examples whose size varies from call to call

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one example as a network takes it."""

    @property
    @abstractmethod
    def packed(self) -> tuple[int, ...]:
        """Shape of one packed example."""

    @property
    @abstractmethod
    def raw(self) -> tuple[str | int, ...]:
        """Shape of a batch of raw examples, with names where it varies."""

    @property
    def raw_type(self) -> str:
        """Numpy's name of the type of raw examples."""
        return self.dtype

    def takes(self, shape: tuple[int, ...], dtype: str) -> bool:
        """Whether an example of this shape and type is one that can be encoded."""
        return shape == self.packed and dtype == self.dtype

    def taken(self, examples: Any) -> Any:
        """Examples as a caller in Python gives them, packed where the kind knows them in another form."""
        return examples

    @abstractmethod
    def __call__(self, packed: Tensor) -> Tensor:
        """(*item, *packed) → (*item, *shape)."""

    def saved(self) -> dict[str, Any]:
        """Plain values that `Kind.encoding` reads, the kind's own included."""
        return self.kind.described() | self.numbers()

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Those that were fitted, as plain values."""

    def told(self) -> dict[str, Any]:
        """Further plain values for a bundle's metadata.json."""
        return {}

    # --- the same in a graph

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The fitted numbers by name: inputs of a graph while it is traced, constants afterwards."""

    @abstractmethod
    def in_graph(self, raw: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Raw examples of any size, in traceable operations, to the network's input.

        Args:
            raw: (batch, …) as a user of the graph gives them.
            numbers: the values of `tensors`, in order.
        """

    def front(self) -> tuple[Callable[[Tensor], Tensor], Tensor, tuple[int, ...]] | None:
        """What `graft` puts first and torch can trace: a function of raw examples, raw examples to trace it with, and
        their axes whose sizes vary. None: there is no such thing."""
        return None

    def graft(self, model: onnx.ModelProto, name: str, front: onnx.ModelProto | None) -> None:
        """Put before an input of a graph, in place, what torch cannot trace of raw examples.

        Args:
            model: whose input takes what `in_graph` takes; afterwards it takes raw examples.
            name: of the input.
            front: the function of `front`, traced.
        """
        return

    def scaled_in_graph(self, prepared: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """What `prepared` gives, to the network's input, without a size that varies.

        Raises:
            MetaloomError: examples of this kind are prepared inside the graph only.
        """
        raise MetaloomError(
            f"there is no plain form of a graph for {self.kind.many}: leave plain out of export.variants"
        )

    def prepared(self, packed: Shaped[np.ndarray, "item ..."]) -> Float32[np.ndarray, "item ..."]:
        """Packed examples as the plain form of a graph takes them: float32, in the network's layout."""
        last = packed.ndim - 1
        return np.ascontiguousarray(np.moveaxis(packed.astype(np.float32), last, last + 1 - len(self.shape)))

    def prepared_in_words(self) -> str:
        """What a caller of the plain form gives it, in a sentence."""
        return f"float32, {'×'.join(map(str, (1, *self.shape)))}: {self.in_words()}"

    @abstractmethod
    def traceable(self, items: int, generator: Any, larger: int = 0) -> Tensor:
        """Raw examples to trace a graph with, of sizes that occur nowhere else; `larger` gives another such size."""

    @abstractmethod
    def golden(self, packed: Shaped[np.ndarray, "item ..."]) -> dict[str, Shaped[np.ndarray, "example ..."]]:
        """Batches of raw examples by name, odd ones among them, that a bundle's graph is proved on."""

    @abstractmethod
    def repacked(self, raw: Shaped[np.ndarray, "item ..."]) -> Shaped[np.ndarray, "item ..."]:
        """A batch of raw examples, packed: the oracle of the graph's own preprocessing."""

    def unpacked(self, packed: Shaped[np.ndarray, "item ..."]) -> Shaped[np.ndarray, "item ..."]:
        """Raw examples that are packed so: packed ones themselves, unless packing changes them again."""
        return packed

    def for_page(self, packed: Shaped[np.ndarray, "item ..."]) -> list[str]:
        """Packed examples as a bundle's page shows them and learns from them: texts, or pictures as data: URIs. None
        where the kind has no page."""
        return []

    # --- another reading of raw examples

    def inputs_from(self, other: Encoding) -> tuple[Tensor, Tensor] | None:
        """Gain and bias (float64) of each channel that make this encoding's inputs of another's; None where that is
        not how they differ. The members of a bank take their inputs so."""
        return None

    def inverted(self) -> Encoding:
        """The same for examples that are the negative of those in training.

        Raises:
            MetaloomError: there is no such thing.
        """
        raise MetaloomError(f"{self.kind.many} have no negative: leave out --invert")

    def looks_inverted(self, packed: Shaped[np.ndarray, "item ..."]) -> bool:
        """Whether packed examples look like the negative of those in training."""
        return False

    @abstractmethod
    def in_words(self) -> str:
        """What a caller of the graph gives it, in a sentence."""
