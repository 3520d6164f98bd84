"""Texts to a network's input: TF-IDF of n-grams of characters, outside and inside an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int32, Shaped
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.kinds.encoding import Encoding
from metaloom.kinds.text.grams import counted, frequent
from metaloom.kinds.text.kind import Text
from metaloom.kinds.text.show import text_of

if TYPE_CHECKING:
    import onnx

SAMPLES = 8  # texts that a bundle's graph is proved on
FITTED = 50_000  # texts at most that say which n-grams are frequent
LONG = 40  # times that a golden text is repeated
ODD = "\tÉtude  NAÏVE\r\n"  # capitals, accents, white space of all sorts


@dataclass(frozen=True)
class TextEncoding(Encoding):
    """Each n-gram's count times its inverse document frequency, of the length √features.

    So the numbers of a text are as large as those of other kinds: their mean square is 1. The frequency is
    scikit-learn's smooth one, ln((1 + texts) / (1 + texts with it)) + 1.

    Args:
        grams: the n-grams, those of the most training texts first.
        idf: of each.
    """

    kind: Text
    grams: tuple[str, ...]
    idf: tuple[float, ...]

    dtype: ClassVar[str] = "int32"
    variable: ClassVar[tuple[int, ...]] = (0,)
    grafted: ClassVar[bool] = True

    @classmethod
    def of(cls, packed: Int32[np.ndarray, "item character"], kind: Text) -> TextEncoding:
        """The n-grams that are in the most of these texts.

        Raises:
            MetaloomError: they have none.
        """
        spread = np.unique(np.linspace(0, len(packed) - 1, min(len(packed), FITTED)).astype(int))
        grams, texts = frequent(lowered(torch.from_numpy(packed[spread])).numpy(), kind.features)
        if not grams:
            raise MetaloomError("the training texts have no letters: give others")
        return cls(kind, grams, tuple(math.log((1 + len(spread)) / (1 + each)) + 1 for each in texts))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.grams),)

    @property
    def packed(self) -> tuple[int, ...]:
        return (self.kind.characters,)

    @property
    def raw(self) -> tuple[str | int, ...]:
        return ("batch",)

    @property
    def raw_type(self) -> str:
        return "str_"

    def __call__(self, packed: Tensor) -> Tensor:
        counts = counted(lowered(packed.reshape(-1, packed.shape[-1])), self.grams)
        return self.in_graph(counts, [torch.tensor(self.idf, device=packed.device)]).unflatten(0, packed.shape[:-1])

    def numbers(self) -> dict[str, Any]:
        return {"grams": list(self.grams), "idf": list(self.idf)}

    def tensors(self) -> dict[str, Tensor]:
        return {"idf": torch.tensor(self.idf)}

    def in_graph(self, raw: Float[Tensor, "batch gram"], numbers: Sequence[Tensor]) -> Float[Tensor, "batch gram"]:
        """From counts of n-grams, which `graft` puts before it: torch has no strings."""
        weighted = raw * numbers[0]
        length = weighted.square().sum(dim=-1, keepdim=True).sqrt()
        return weighted * (math.sqrt(len(self.grams)) / length.clamp(min=1e-6))

    def graft(self, model: onnx.ModelProto, name: str, front: onnx.ModelProto | None) -> None:
        from metaloom.kinds.text.in_graph import count_strings

        count_strings(model, name, self.grams, self.kind.characters)

    def traceable(self, items: int, generator: torch.Generator, larger: int = 0) -> Float[Tensor, "batch gram"]:
        return torch.randint(0, 3, (items, len(self.grams)), generator=generator).float()

    def golden(self, packed: Int32[np.ndarray, "item character"]) -> dict[str, Shaped[np.ndarray, " example"]]:
        """Texts as they are, one alone, one of spaces, a very long one, and odd ones."""
        examples = self.unpacked(packed[:SAMPLES])
        first = str(examples[0])
        odd = [first.upper(), f"{ODD}{first}", f"🙂{first}e\u0301", " ".join([first] * LONG)]
        return {"examples": examples, "single": examples[:1], "spaces": np.array(["  "]), "odd": np.array(odd)}

    def repacked(self, raw: Shaped[np.ndarray, " item"]) -> Int32[np.ndarray, "item character"]:
        return packed_texts(raw, self.kind)

    def unpacked(self, packed: Int32[np.ndarray, "item character"]) -> Shaped[np.ndarray, " item"]:
        return np.array([text_of(each) for each in packed])

    def for_page(self, packed: Int32[np.ndarray, "item character"]) -> list[str]:
        return [text_of(each) for each in packed]

    def taken(self, examples: Any) -> Any:
        return packed_texts(examples, self.kind)

    def in_words(self) -> str:
        return (
            f"texts as they are (UTF-8), of which the first {self.kind.characters:,} characters count; the graph "
            f"writes A to Z in lower case, counts {len(self.grams):,} n-grams of characters and weighs them (TF-IDF)."
        )


def lowered(packed: Int32[Tensor, "item character"]) -> Int32[Tensor, "item character"]:
    """Texts with A to Z in lower case; those that an encoder sees too are packed with their capitals."""
    return torch.where((packed >= ord("A")) & (packed <= ord("Z")), packed + 32, packed)


def packed_texts(examples: Any, kind: Text) -> Any:
    """Texts that a caller in Python gives, packed; whatever else it gives as it is."""
    if isinstance(examples, list | tuple) and all(isinstance(each, str) for each in examples):
        examples = np.array(examples, object)
    if getattr(examples, "ndim", 0) == 1 and np.asarray(examples).dtype.kind in "OU":
        return np.stack([kind.pack(np.array(text)) for text in np.asarray(examples)])
    return examples
