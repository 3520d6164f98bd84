"""Embeddings of pictures to a network's input, and raw pictures of any size to it inside a graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from metaloom.kinds.encoded.kind import EncodedPictures
from metaloom.kinds.pictures.encode import PictureEncoding

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class EmbeddingEncoding(PictureEncoding):
    """(number - mean) / deviation, with a mean for each number of an embedding, and one deviation for all.

    So the numbers of an embedding keep their sizes beside each other, and nearest mean of what comes out is nearest
    mean of the embeddings themselves.
    """

    kind: EncodedPictures

    variable: ClassVar[tuple[int, ...]] = (0,)
    grafted: ClassVar[bool] = True

    @classmethod
    def of(cls, packed: Shaped[np.ndarray, "item ..."], kind: EncodedPictures) -> EmbeddingEncoding:
        """Fitted on embeddings of training examples, or on packed pictures of them."""
        rows = (packed if packed.ndim == 2 else kind.encoder(packed)).astype(np.float64)
        mean = rows.mean(axis=0)
        deviation = math.sqrt(float(np.square(rows - mean).mean())) or 1.0
        return cls(kind, tuple(mean.tolist()), (deviation,) * rows.shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.kind.encoder.embed,)

    def takes(self, shape: tuple[int, ...], dtype: str) -> bool:
        return super().takes(shape, dtype) or (shape == self.shape and dtype == "float32")

    def __call__(self, packed: Shaped[Tensor, "*item ..."]) -> Float[Tensor, "*item embed"]:
        return super().__call__(packed if packed.is_floating_point() else self._embedded(packed))

    def _embedded(self, packed: Tensor) -> Tensor:
        lead = packed.shape[: -len(self.packed)]
        rows = self.kind.encoder(packed.reshape(-1, *self.packed).cpu().numpy())
        return torch.from_numpy(rows).to(packed.device).unflatten(0, lead)

    def packed_in_graph(self, raw: Tensor) -> Tensor:
        """Of embeddings, which `graft` puts before it."""
        return raw

    def front(self) -> tuple[Callable[[Tensor], Tensor], Tensor, tuple[int, ...]]:
        pictures = PictureEncoding(self.kind, (), ())
        raw = pictures.traceable(2, torch.Generator().manual_seed(0))
        return pictures.packed_in_graph, raw, pictures.variable

    def graft(self, model: onnx.ModelProto, name: str, front: onnx.ModelProto | None) -> None:
        import onnx

        from metaloom.kinds.encoded.grafting import put_before

        assert front is not None
        put_before(model, name, [front, onnx.load(self.kind.encoder.checked())])

    def traceable(self, items: int, generator: torch.Generator, larger: int = 0) -> Float[Tensor, "item embed"]:
        rows = torch.randn(items, len(self.shift), generator=generator)
        return rows * torch.tensor(self.scale) + torch.tensor(self.shift)

    def inverted(self) -> EmbeddingEncoding:
        return replace(self, kind=replace(self.kind, inverted=not self.kind.inverted))

    def looks_inverted(self, packed: Shaped[np.ndarray, "item ..."]) -> bool:
        return False

    def in_words(self) -> str:
        return super().in_words().replace(" and normalises.", f", and the encoder {self.kind.encoder.name} sees it.")
