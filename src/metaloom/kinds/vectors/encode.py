"""Rows of numbers to a network's input, each feature shifted and scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from metaloom.kinds.scaled import Scaled
from metaloom.kinds.vectors.kind import Vectors

SAMPLES = 8  # rows that a bundle's graph is proved on


@dataclass(frozen=True)
class VectorEncoding(Scaled):
    """(value - mean) / deviation for each feature, or the values as they are."""

    kind: Vectors

    dtype: ClassVar[str] = "float32"
    variable: ClassVar[tuple[int, ...]] = (0,)
    extreme: ClassVar[tuple[str, ...]] = ("far",)

    @classmethod
    def of(cls, rows: Float32[np.ndarray, "item feature"], kind: Vectors | None = None) -> VectorEncoding:
        """Mean and deviation of each feature; one that never changes is only shifted."""
        kind = kind or Vectors()
        if kind.scaling == "none":
            return cls(kind, (0.0,) * rows.shape[1], (1.0,) * rows.shape[1])
        values = rows.astype(np.float64)
        deviation = values.std(axis=0)
        scale = np.where(deviation > 1e-12 * np.abs(values).max(axis=0, initial=1e-300), deviation, 1.0)
        return cls(kind, tuple(values.mean(axis=0).tolist()), tuple(scale.tolist()))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.shift),)

    @property
    def packed(self) -> tuple[int, ...]:
        return self.shape

    @property
    def raw(self) -> tuple[str | int, ...]:
        return "batch", len(self.shift)

    def packed_in_graph(self, raw: Tensor) -> Tensor:
        return raw

    def traceable(self, items: int, generator: torch.Generator, larger: int = 0) -> Tensor:
        rows = torch.randn(items, len(self.shift), generator=generator)
        return rows * torch.tensor(self.scale) + torch.tensor(self.shift)

    def golden(self, packed: Float32[np.ndarray, "item feature"]) -> dict[str, Float32[np.ndarray, "example feature"]]:
        """Rows as they are, one alone, and one far from all that was seen in training."""
        examples = packed[:SAMPLES]
        far = np.array(self.shift, np.float32) + 10 * np.array(self.scale, np.float32)
        return {"examples": examples, "single": examples[:1], "far": far[None]}

    def repacked(self, raw: Float32[np.ndarray, "item feature"]) -> Float32[np.ndarray, "item feature"]:
        return raw

    def in_words(self) -> str:
        return f"rows of {len(self.shift)} numbers as they are; the graph scales them."


def jittered(
    x: Float[Tensor, "*item feature"], chances: Float[Tensor, "*item 2"], strength: float
) -> Float[Tensor, "*item feature"]:
    """Each row stretched and shifted as a whole: strength 1 is up to half as long again, and 0.3 deviations."""
    longer, moved = (strength * (2 * chances - 1)).unbind(-1)
    return x * torch.exp(math.log(1.5) * longer)[..., None] + 0.3 * moved[..., None]
