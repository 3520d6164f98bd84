"""Packed pictures to a network's input, and raw pictures of any size to it inside a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from metaloom.kinds.pictures.ground import negatives
from metaloom.kinds.pictures.in_graph import resized
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.pictures.resize import PAPER
from metaloom.kinds.pictures.show import png_uri
from metaloom.kinds.scaled import Scaled

LONG = 1100  # pixels
SAMPLES = 8  # examples that a bundle's graph is proved on


@dataclass(frozen=True)
class PictureEncoding(Scaled):
    """(pixel - shift) / scale for each channel, in units of pixel values 0 to 255."""

    kind: Pictures

    dtype: ClassVar[str] = "uint8"
    negative_remedy: ClassVar[str] = "give 255 - X"
    variable: ClassVar[tuple[int, ...]] = (0, 1, 2)
    extreme: ClassVar[tuple[str, ...]] = ("one_pixel", "long")

    @classmethod
    def of(
        cls, images: UInt8[np.ndarray, "item height width channel"], kind: Pictures | None = None
    ) -> PictureEncoding:
        """Shift to the most frequent value (the paper, which then equals the padding), scale to unit deviation."""
        shift, scale = [], []
        for channel in range(images.shape[-1]):
            histogram = np.bincount(images[..., channel].ravel(), minlength=256)
            values, share = np.arange(256), histogram / histogram.sum()
            mean = float((values * share).sum())
            shift.append(float(histogram.argmax()))
            scale.append(max(float(np.sqrt(((values - mean) ** 2 * share).sum())), 1.0))
        return cls(kind or Pictures(images.shape[1], images.shape[-1]), tuple(shift), tuple(scale))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.kind.channels, self.kind.image_size, self.kind.image_size

    @property
    def packed(self) -> tuple[int, ...]:
        return self.kind.image_size, self.kind.image_size, self.kind.channels

    @property
    def raw(self) -> tuple[str | int, ...]:
        return "batch", "height", "width", self.kind.channels

    def packed_in_graph(self, raw: Tensor) -> Tensor:
        return resized(raw, self.kind.image_size, self.kind.fit, self.kind.inverted)

    def traceable(self, items: int, generator: torch.Generator, larger: int = 0) -> Tensor:
        size = (items, 31 - 2 * larger, 37 + 4 * larger, self.kind.channels)
        return torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)

    def golden(
        self, packed: UInt8[np.ndarray, "item height width channel"]
    ) -> dict[str, UInt8[np.ndarray, "example height width channel"]]:
        """Pictures as they are, ones that are not square, one of a single pixel, and a long one: runtimes that hold
        whole numbers in 32 bits had gone wrong above 512 pixels."""
        examples = packed[:SAMPLES]
        doubled = examples[:2].repeat(2, axis=1).repeat(3, axis=2)
        long = examples[:1].repeat(LONG // examples.shape[2] + 1, axis=2)[:, :: examples.shape[1] // 4]
        return {
            "examples": examples,
            "not_square": doubled[:, 1:, :-5],
            "one_pixel": examples[:1, :1, :1],
            "long": long,
        }

    def repacked(self, raw: UInt8[np.ndarray, "item height width channel"]) -> UInt8[np.ndarray, "item h w channel"]:
        return self.kind.packed(raw)

    def unpacked(self, packed: UInt8[np.ndarray, "item height width channel"]) -> UInt8[np.ndarray, "item h w channel"]:
        return PAPER - packed if self.kind.inverted else packed

    def for_page(self, packed: UInt8[np.ndarray, "item height width channel"]) -> list[str]:
        return [png_uri(each) for each in self.unpacked(packed)]

    def inverted(self) -> PictureEncoding:
        return replace(self, kind=replace(self.kind, inverted=not self.kind.inverted))

    def looks_inverted(self, packed: UInt8[np.ndarray, "item height width channel"]) -> bool:
        """Whether most are drawn on the opposite of the training pictures' paper."""
        return bool(negatives(packed, self.shift).mean() > 0.5)

    def prepared_in_words(self) -> str:
        colours, size = "grey" if self.kind.channels == 1 else "red, green, blue", self.kind.image_size
        made = {"pad": "padded with white to a square", "crop": "cut to the square in its middle"}
        fit = made.get(self.kind.fit, "stretched to a square")
        first = "255 - pixel (they are read as negatives), then " if self.kind.inverted else ""
        return (
            f"whole pixels 0-255 as float32, 1×{self.kind.channels}×{size}×{size} ({colours}): transparency on white, "
            f"{first}{fit} and resized to {size}×{size} (antialiased, bilinear, rounded); plain.py does it."
        )

    def in_words(self) -> str:
        colours, size = "grey" if self.kind.channels == 1 else "red, green, blue", self.kind.image_size
        made = {"pad": "pads with white and resizes to", "crop": "cuts the middle out and resizes it to"}.get(
            self.kind.fit, "resizes to"
        )
        return (
            f"raw pixels 0-255 ({colours}), transparency on white; any height and width: the graph {made} "
            f"{size}x{size} and normalises. All images of a batch have the same size."
            + (" They are read as negatives: light on dark." if self.kind.inverted else "")
        )
