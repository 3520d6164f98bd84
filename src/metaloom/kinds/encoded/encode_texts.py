"""Embeddings of texts to a network's input, and ids of tokens to it inside a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from jaxtyping import Float32, Int32, Int64, Shaped

from metaloom.kinds.encoded.encode import Embeddings
from metaloom.kinds.encoded.grafting import put_before
from metaloom.kinds.encoded.texts import EncodedText
from metaloom.kinds.encoded.tokens import filled
from metaloom.kinds.text.encode import packed_texts
from metaloom.kinds.text.show import text_of

SAMPLES = 8  # texts that a bundle's graph is proved on
PROOFS = ("Hello, World!", "  Naïve ÉTUDES cost 12.50 €\tor 3% ", "日本語のテキスト 🙂", "unbelievablyconcatenatedword")


@dataclass(frozen=True)
class TokenEncoding(Embeddings):
    """Of texts. A graph takes ids of tokens, with -1 behind each text's last: its mask is made from that."""

    kind: EncodedText
    shift: tuple[float, ...]

    dtype: ClassVar[str] = "int32"

    @classmethod
    def of(cls, packed: Shaped[np.ndarray, "item ..."], kind: EncodedText) -> TokenEncoding:
        """Fitted on embeddings of training examples, or on packed texts."""
        return cls(kind, cls.mean_of(packed, kind))

    @property
    def packed(self) -> tuple[int, ...]:
        return (self.kind.characters,)

    @property
    def raw(self) -> tuple[str | int, ...]:
        return ("batch", "token")

    @property
    def raw_type(self) -> str:
        return "int64"

    def graft(self, model: onnx.ModelProto, name: str, front: onnx.ModelProto | None) -> None:
        put_before(model, name, [onnx.load(self.kind.encoder.checked())])

    def golden(self, packed: Int32[np.ndarray, "item character"]) -> dict[str, Int64[np.ndarray, "example token"]]:
        """Texts as they are, one alone, and odd ones beside each other."""
        texts = _texts(packed[:SAMPLES])
        odd = [*PROOFS, texts[0].upper(), " ".join([texts[0]] * 40)]
        groups = {"examples": texts, "single": texts[:1], "odd": [self.kind.read(text) for text in odd]}
        return {name: filled(self.kind.encoder.ids(each)) for name, each in groups.items()}

    def repacked(self, raw: Int64[np.ndarray, "item token"]) -> Float32[np.ndarray, "item embed"]:
        """Their rows, by the encoder's own file: ids are no texts any more."""
        return self.kind.encoder.of_ids(raw)

    def unpacked(self, packed: Int32[np.ndarray, "item character"]) -> Int64[np.ndarray, "item token"]:
        return filled(self.kind.encoder.ids(_texts(packed)))

    def for_page(self, packed: Int32[np.ndarray, "item character"]) -> list[str]:
        return _texts(packed)

    def taken(self, examples: Any) -> Any:
        return packed_texts(examples, self.kind)

    def told(self) -> dict[str, Any]:
        return {"proofs": dict(zip(PROOFS, self.kind.encoder.ids(PROOFS), strict=True))}

    def in_words(self) -> str:
        encoder = self.kind.encoder
        return (
            f"ids of tokens, as tokenizer.json (Python's `tokenizers`) has them of the first {self.kind.characters:,} "
            f"characters of a text, {encoder.tokens:,} at most; -1 fills the shorter texts of a batch up. The encoder "
            f"{encoder.name} sees them."
        )


def _texts(packed: Int32[np.ndarray, "item character"]) -> list[str]:
    return [text_of(each) for each in packed]
