"""Embeddings of pictures to a network's input, and raw pictures of any size to it inside a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from metaloom.kinds.encoded.kind import EncodedPictures
from metaloom.kinds.encoding import Encoding
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.system.files import sha256

if TYPE_CHECKING:
    import onnx


class Embeddings(Encoding):
    """An embedding less the mean of the training examples', of the length √embed.

    So its numbers are as large as those of other kinds: their mean square is 1. To compare directions from the centre
    is what serves most encoders, as in Wang, Chao, Weinberger, van der Maaten: SimpleShot, 2019
    (https://arxiv.org/abs/1911.04623), "CL2N".
    """

    kind: Any  # with an `encoder`
    shift: tuple[float, ...]  # the mean

    variable: ClassVar[tuple[int, ...]] = (0,)
    grafted: ClassVar[bool] = True

    @classmethod
    def mean_of(cls, packed: Shaped[np.ndarray, "item ..."], kind: Any) -> tuple[float, ...]:
        """The mean of embeddings, or of those of packed examples."""
        rows = packed if packed.dtype.kind == "f" else kind.encoder(packed)
        return tuple(rows.mean(axis=0, dtype=np.float64).tolist())

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.kind.encoder.embed,)

    def behind(self, file: Path) -> Embeddings:
        """The same behind another form of its encoder, which is in this file."""
        encoder = replace(self.kind.encoder, file=str(file), sha256=sha256(file))
        return replace(cast(Any, self), kind=replace(self.kind, encoder=encoder))

    def takes(self, shape: tuple[int, ...], dtype: str) -> bool:
        """A packed example, or its embedding."""
        return super().takes(shape, dtype) or (shape == self.shape and dtype == "float32")

    def __call__(self, packed: Shaped[Tensor, "*item ..."]) -> Float[Tensor, "*item embed"]:
        rows = packed if packed.is_floating_point() else self._embedded(packed)
        return self.in_graph(rows, [torch.tensor(self.shift, device=rows.device)])

    def _embedded(self, packed: Tensor) -> Tensor:
        lead = packed.shape[: -len(self.packed)]
        rows = self.kind.encoder(packed.reshape(-1, *self.packed).cpu().numpy())
        return torch.from_numpy(rows).to(packed.device).unflatten(0, lead)

    def inputs_from(self, other: Encoding) -> None:
        """Lengths are no matter of shift and scale."""
        return

    def numbers(self) -> dict[str, Any]:
        return {"shift": list(self.shift)}

    def tensors(self) -> dict[str, Tensor]:
        return {"shift": torch.tensor(self.shift)}

    def in_graph(self, raw: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """From embeddings, which `graft` puts before it."""
        centred = raw - numbers[0]
        length = centred.square().sum(dim=-1, keepdim=True).sqrt()
        return centred * (math.sqrt(raw.shape[-1]) / length.clamp(min=1e-6))

    def traceable(self, items: int, generator: torch.Generator, larger: int = 0) -> Float[Tensor, "item embed"]:
        return torch.randn(items, len(self.shift), generator=generator) + torch.tensor(self.shift)

    def looks_inverted(self, packed: Shaped[np.ndarray, "item ..."]) -> bool:
        return False


@dataclass(frozen=True)
class EmbeddingEncoding(Embeddings, PictureEncoding):
    """Of pictures. The mean is `shift`; `scale` is empty."""

    kind: EncodedPictures

    @classmethod
    def of(cls, packed: Shaped[np.ndarray, "item ..."], kind: EncodedPictures) -> EmbeddingEncoding:
        """Fitted on embeddings of training examples, or on packed pictures of them."""
        return cls(kind, cls.mean_of(packed, kind), ())

    def front(self) -> tuple[Callable[[Tensor], Tensor], Tensor, tuple[int, ...]]:
        pictures = PictureEncoding(self.kind, (), ())
        raw = pictures.traceable(2, torch.Generator().manual_seed(0))
        return pictures.packed_in_graph, raw, pictures.variable

    def graft(self, model: onnx.ModelProto, name: str, front: onnx.ModelProto | None) -> None:
        import onnx

        from metaloom.kinds.encoded.grafting import put_before

        assert front is not None
        put_before(model, name, [front, onnx.load(self.kind.encoder.checked())])

    def inverted(self) -> EmbeddingEncoding:
        return replace(self, kind=replace(self.kind, inverted=not self.kind.inverted))

    def in_words(self) -> str:
        return super().in_words().replace(" and normalises.", f", and the encoder {self.kind.encoder.name} sees it.")
