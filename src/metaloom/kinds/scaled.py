"""An encoding that shifts and scales the last axis of packed examples: of pixels' channels, of features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from metaloom.kinds.base import Kind
from metaloom.kinds.encoding import Encoding


@dataclass(frozen=True)
class Scaled(Encoding):
    """(value - shift) / scale for each place of the last axis, which becomes the first."""

    kind: Kind
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, packed: Tensor) -> Tensor:
        return self._normalised(packed, *(_on(packed.device, each) for each in (self.shift, self.scale)))

    def inputs_from(self, other: Encoding) -> tuple[Tensor, Tensor] | None:
        if not isinstance(other, Scaled):
            return None
        numbers = (self.shift, self.scale, other.shift, other.scale)
        shift, scale, others_shift, others_scale = (torch.tensor(each, dtype=torch.float64) for each in numbers)
        return others_scale / scale, (others_shift - shift) / scale

    def numbers(self) -> dict[str, Any]:
        return {"shift": list(self.shift), "scale": list(self.scale)}

    def tensors(self) -> dict[str, Tensor]:
        return {name: torch.tensor(value) for name, value in self.numbers().items()}

    def in_graph(self, raw: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        shift, scale = numbers
        return self._normalised(self.packed_in_graph(raw), shift, scale)

    def scaled_in_graph(self, prepared: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        shift, scale = (each.reshape(-1, *[1] * (len(self.shape) - 1)) for each in numbers)
        return (prepared - shift) / scale

    @abstractmethod
    def packed_in_graph(self, raw: Tensor) -> Tensor:
        """Raw examples as packed ones, in traceable operations."""

    def _normalised(self, packed: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return ((packed - shift) / scale).movedim(-1, -len(self.shape))


@lru_cache(maxsize=64)
def _on(device: torch.device, numbers: tuple[float, ...]) -> Tensor:
    """Kept there: to bring them would make the host wait for a GPU at every step."""
    return torch.tensor(numbers, device=device)
