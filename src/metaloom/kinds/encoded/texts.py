"""Texts that a frozen encoder sees first: for a person and in files they are texts, for a network rows."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Int64, Shaped

from metaloom.kinds.encoded.tokens import STEP, TOKENIZER, TextEncoder, filled
from metaloom.kinds.fitted import numbers_in
from metaloom.kinds.text.kind import Text

if TYPE_CHECKING:
    from torch import Tensor

    from metaloom.kinds.encoded.encode_texts import TokenEncoding


@dataclass(frozen=True)
class EncodedText(Text):
    """Packed, they are code points with their capitals; the stage `embed` has the encoder's rows for all of them.

    Whatever takes packed examples takes texts or rows.

    Args:
        encoder: that sees them.
    """

    encoder: TextEncoder = field(kw_only=True)

    chances: ClassVar[int] = 2
    enough: ClassVar[int] = 1
    variants: ClassVar[bool] = True  # of the encoder
    without_encoder: ClassVar[bool] = True

    @classmethod
    def by(cls, encoder: TextEncoder, texts: Text) -> EncodedText:
        """The same texts, seen by an encoder."""
        return cls(**{each.name: getattr(texts, each.name) for each in fields(texts)}, encoder=encoder)

    def described(self) -> dict[str, Any]:
        return super().described() | {"encoder": asdict(self.encoder)}

    @property
    def behind(self) -> str:
        return self.encoder.in_words

    @property
    def shipped(self) -> Path:
        return Path(__file__).with_name("shipped")

    @property
    def page(self) -> Path:
        """That of texts, which finds the tokenizer in what it is given."""
        return Path(inspect.getfile(Text)).with_name("shipped") / "index.html"

    @property
    def travelling(self) -> dict[str, Path]:
        return {TOKENIZER: self.encoder.checked_tokenizer()}

    def in_bundle(self, folder: Path) -> EncodedText:
        return replace(self, encoder=self.encoder.in_bundle(folder))

    def decoded(self, raw: tuple[int | str, ...]) -> tuple[int | str, ...]:
        return ()

    def for_graph(self, examples: Sequence[Shaped[np.ndarray, ""]]) -> list[Int64[np.ndarray, " token"]]:
        ids = self.encoder.ids([self.read(str(each)) for each in examples])
        return [filled([each], STEP)[0] for each in ids]

    def fitted(self, packed: Shaped[np.ndarray, "item ..."]) -> TokenEncoding:
        from metaloom.kinds.encoded.encode_texts import TokenEncoding

        return TokenEncoding.of(packed, self)

    def encoding(self, saved: dict[str, Any]) -> TokenEncoding:
        from metaloom.kinds.encoded.encode_texts import TokenEncoding

        return TokenEncoding(self, numbers_in(saved, "shift", self.encoder.embed))

    def distorted(self, x: Tensor, chances: Tensor, strength: float) -> Tensor:
        from metaloom.kinds.vectors.encode import jittered

        return jittered(x, chances, strength)

    def untrained(self, packed: Tensor) -> Tensor:
        return packed if packed.is_floating_point() else super().untrained(packed)
