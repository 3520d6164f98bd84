"""Pictures as a kind of example: everything that needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Bool, UInt8
from pydantic import AfterValidator, Field

from metaloom.errors import MetaloomError
from metaloom.kinds.base import Kind
from metaloom.kinds.fitted import numbers_in, scales_in
from metaloom.kinds.pictures.ground import grounds, negatives
from metaloom.kinds.pictures.negatives import odd_grounds
from metaloom.kinds.pictures.read import IN_WORDS, SUFFIXES, decode, is_blank, is_coloured, is_picture
from metaloom.kinds.pictures.resize import PAPER, Fit, resize, scaled
from metaloom.kinds.pictures.show import Thumbnails, encode

if TYPE_CHECKING:
    from torch import Tensor

    from metaloom.kinds.pictures.encode import PictureEncoding
    from metaloom.networks import Network

PREVIEW = 96  # pixels of the longer side of a picture that is shown as it came
FITTED = {
    "pad": "whole pictures with white paper beside those that are no squares",
    "crop": "of pictures that are no squares the middle",
    "stretch": "pictures that are no squares stretched to one",
}
GREY, COLOUR = 1, 3  # channels


def _settled(channels: int) -> int:
    """What a file may say of them."""
    if channels not in (GREY, COLOUR):
        raise ValueError(f"there are pictures of {GREY} and of {COLOUR} channels")
    return channels


@dataclass(frozen=True)
class Pictures(Kind):
    """Image files of any size, packed as squares of uint8 pixels (height, width, channel).

    Args:
        image_size: side of the square, in pixels.
        channels: 1 for grey, 3 for colour; 0: not settled yet.
        rotations: classes turned by quarters are further training classes.
        mirror: so are mirrored ones.
        test_shift: pixels by which a picture is moved for the further views of an answer; 0: one view.
        fit: how a picture that is no square becomes one; models from before this setting stretch.
        inverted: whether pictures are turned from light on dark to dark on light before all else.
    """

    image_size: Annotated[int, Field(ge=1, le=1024)]
    channels: Annotated[int, AfterValidator(_settled)]
    rotations: bool = False
    mirror: bool = False
    test_shift: Annotated[int, Field(ge=0, le=64)] = 0
    fit: Fit = "stretch"
    inverted: bool = False

    name: ClassVar[str] = "pictures"
    noun: ClassVar[str] = "picture"
    one: ClassVar[str] = "image"
    many: ClassVar[str] = "images"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    formats: ClassVar[str] = IN_WORDS
    network: ClassVar[str] = "conv4"
    layout: ClassVar[str] = "domain/class/image.png"
    chances: ClassVar[int] = 6
    looks: ClassVar[bool] = True
    previews: ClassVar[bool] = True

    def decode(self, content: bytes) -> UInt8[np.ndarray, "height width channel"]:
        return decode(content, self.channels)

    def is_example(self, name: str, head: bytes = b"") -> bool:
        return super().is_example(name) or is_picture(head)

    def flaw(self, example: UInt8[np.ndarray, "height width channel"]) -> str:
        return "is blank: all its pixels are alike" if is_blank(example) else ""

    def trait(self, example: UInt8[np.ndarray, "height width channel"]) -> float | None:
        """How light its ground is, 0 to 1; None where it has none."""
        level = float(grounds(example[None]).mean()) / PAPER
        return None if math.isnan(level) else level

    def oddities(self, traits: Iterable[tuple[str, str, float | None]]) -> list[str]:
        return odd_grounds(traits)

    def look(self, content: bytes) -> bool | None:
        """Whether it is in colour."""
        try:
            return is_coloured(decode(content, COLOUR))
        except MetaloomError:
            return None

    def settled(self, having: int, seen: int) -> Pictures:
        """In colour where more than half of the pictures are."""
        return self if self.channels else replace(self, channels=COLOUR if 2 * having > seen else GREY)

    def reading(self, having: int, seen: int) -> str:
        most, found = 2 * having > seen, f"{having:,} of the {seen:,} looked at"
        if self.channels == COLOUR:
            return f"{self.many}: read in colour, {'as' if most else 'though only'} {found} are"
        if most:
            return (
                f"{self.many}: read in grey, though {found} are in colour: where it tells classes apart, set "
                "pictures.channels: auto"
            )
        return f"{self.many}: read in grey, as only {found} are in colour" if having else ""

    @property
    def loses(self) -> bool:
        return self.channels == GREY

    def loss(self, having: int, seen: int) -> str:
        coloured = "it is in colour" if seen == 1 else f"{having:,} of the {seen:,} {self.many} looked at are in colour"
        return f"colours are dropped: this model reads grey, and {coloured}"

    def looks_negative(
        self, raw: UInt8[np.ndarray, "item height width channel"], saved: Mapping[str, Any]
    ) -> Bool[np.ndarray, " item"]:
        shift = numbers_in(saved, "shift", self.channels)
        return negatives(PAPER - raw if self.inverted else raw, shift)

    def preview(self, content: bytes) -> tuple[str, str]:
        picture = decode(content, COLOUR)
        height, width, _ = picture.shape
        factor = min(1.0, PREVIEW / max(height, width))
        small = scaled(picture, max(1, round(factor * height)), max(1, round(factor * width)))
        if self.channels == GREY and (small == small[..., :1]).all():  # no colour was lost
            small = small[..., :1]
        return encode(small), f"{width:,} × {height:,} pixels"

    def pack(self, example: UInt8[np.ndarray, "height width channel"]) -> UInt8[np.ndarray, "size size channel"]:
        return self.packed(example[None])[0]

    def packed(self, images: UInt8[np.ndarray, "item height width channel"]) -> UInt8[np.ndarray, "item s s channel"]:
        """A batch of pictures of one size as they are packed."""
        return resize(PAPER - images if self.inverted else images, self.image_size, self.fit)

    def for_graph(self, examples: Sequence[UInt8[np.ndarray, ...]]) -> Sequence[UInt8[np.ndarray, ...]]:
        """At the graph's own size, pixel for pixel as it would make them itself, for which it takes several times as
        long; a graph that first inverts them rounds otherwise."""
        if self.inverted:
            return examples
        return [resize(each[None], self.image_size, self.fit)[0] for each in examples]

    def embedded(self, folder: Path) -> None:
        from metaloom.kinds.pictures.glyphs.build import build_glyphs

        build_glyphs(folder)

    def packed_in_words(self, packed: UInt8[np.ndarray, "item height width channel"]) -> str:
        _, height, width, channels = packed.shape
        return f"{width} × {height} pixels in {'grey' if channels == GREY else 'colour'}, {FITTED[self.fit]}"

    def shown(self, packed: UInt8[np.ndarray, "item height width channel"]) -> Thumbnails:
        return Thumbnails(packed)

    def fitted(self, packed: UInt8[np.ndarray, "item height width channel"]) -> PictureEncoding:
        from metaloom.kinds.pictures.encode import PictureEncoding

        return PictureEncoding.of(packed, self)

    def encoding(self, saved: dict[str, Any]) -> PictureEncoding:
        from metaloom.kinds.pictures.encode import PictureEncoding

        shift, scale = numbers_in(saved, "shift", self.channels), scales_in(saved, "scale", self.channels)
        return PictureEncoding(self, shift, scale)

    @property
    def quarters(self) -> int:
        """Quarter turns in which a class is seen."""
        return 4 if self.rotations else 1

    @property
    def views(self) -> int:
        return self.quarters * (2 if self.mirror else 1)

    def seen(self, packed: Tensor, views: Tensor) -> Tensor:
        from metaloom.kinds.pictures.augment import seen

        return seen(packed, views, self.quarters)

    def distorted(self, x: Tensor, chances: Tensor, strength: float) -> Tensor:
        from metaloom.kinds.pictures.augment import distorted

        return distorted(x, chances, strength)

    def untrained(self, packed: Tensor) -> Tensor:
        from metaloom.kinds.pictures.untrained import features

        return features(packed)

    def with_test_augmentation(self, network: Network) -> Network:
        from metaloom.kinds.pictures.shifted import Shifted

        return Shifted.of(network, self.test_shift)
