"""Pictures that a frozen encoder sees first: for a person and in files they are pictures, for a network rows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Shaped

from metaloom.errors import MetaloomError
from metaloom.kinds.encoded.encoder import Encoder
from metaloom.kinds.fitted import numbers_in
from metaloom.kinds.pictures.kind import Pictures

if TYPE_CHECKING:
    from torch import Tensor

    from metaloom.kinds.encoded.encode import EmbeddingEncoding
    from metaloom.networks import Network


@dataclass(frozen=True)
class EncodedPictures(Pictures):
    """Packed, they are pictures of the size that the encoder takes; the stage `embed` has its rows for all of them.

    Whatever takes packed examples takes pictures or rows.

    Args:
        encoder: that sees them.
    """

    encoder: Encoder = field(kw_only=True)

    chances: ClassVar[int] = 2
    enough: ClassVar[int] = 1
    without_encoder: ClassVar[bool] = True

    @classmethod
    def by(cls, encoder: Encoder, pictures: Pictures) -> EncodedPictures:
        """The same pictures, seen by an encoder.

        Raises:
            MetaloomError: they are to be turned, mirrored or moved, which an encoder that is run once does not see.
        """
        for name in ("rotations", "mirror", "test_shift"):
            if value := getattr(pictures, name):
                raise MetaloomError(
                    f"pictures.{name} is {value}, and an encoder sees each picture once, as it is: set it back to "
                    "what params.yaml came with"
                )
        return cls(**{each.name: getattr(pictures, each.name) for each in fields(pictures)}, encoder=encoder)

    def described(self) -> dict[str, Any]:
        return super().described() | {"encoder": asdict(self.encoder)}

    @property
    def behind(self) -> str:
        return self.encoder.in_words

    @property
    def shipped(self) -> Path:
        """Whoever has a bundle gives it pictures."""
        return Path(inspect.getfile(Pictures)).with_name("shipped")

    def looks_negative(
        self, raw: Shaped[np.ndarray, "item ..."], saved: Mapping[str, Any]
    ) -> Bool[np.ndarray, " item"]:
        """What the paper of the training pictures was, embeddings do not say."""
        return np.zeros(len(raw), bool)

    def fitted(self, packed: Shaped[np.ndarray, "item ..."]) -> EmbeddingEncoding:
        from metaloom.kinds.encoded.encode import EmbeddingEncoding

        return EmbeddingEncoding.of(packed, self)

    def encoding(self, saved: dict[str, Any]) -> EmbeddingEncoding:
        from metaloom.kinds.encoded.encode import EmbeddingEncoding

        return EmbeddingEncoding(self, numbers_in(saved, "shift", self.encoder.embed), ())

    def distorted(self, x: Tensor, chances: Tensor, strength: float) -> Tensor:
        from metaloom.kinds.vectors.encode import jittered

        return jittered(x, chances, strength)

    def untrained(self, packed: Tensor) -> Tensor:
        return packed if packed.is_floating_point() else super().untrained(packed)

    def with_test_augmentation(self, network: Network) -> Network:
        return network
