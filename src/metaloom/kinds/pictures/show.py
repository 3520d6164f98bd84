"""Examples as small pictures in the page itself (data: URIs)."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from metaloom.kinds.base import Shown

LARGEST = 64  # pixels a side; larger ones are reduced
LOSSLESS = 32  # up to this side PNG is small enough


class Thumbnails(Shown):
    """The packed images (item, height, width, channel), each encoded once and on request."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._uris: dict[int, str] = {}

    def uri(self, row: int) -> str:
        """The item's picture as a data: URI.

        Raises:
            IndexError: the data set has no such row.
        """
        if row not in self._uris:
            self._uris[row] = encode(np.asarray(self._images[row]))
        return self._uris[row]

    def side(self, largest: int) -> int:
        """Pixels on the page: the largest whole multiple of the stored side up to `largest`."""
        return largest // self.stored * self.stored or largest

    @property
    def stored(self) -> int:
        """Pixels of a stored picture's longer side."""
        return min(max(self._images.shape[1:3]), LARGEST)

    def __len__(self) -> int:
        return len(self._images)


def encode(pixels: np.ndarray) -> str:
    """One uint8 image (height, width, 1 or 3) as a data: URI: PNG, or WebP where that saves much."""
    if max(pixels.shape[:2]) <= LOSSLESS:
        return png_uri(pixels)
    image = _image(pixels)
    if max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return _uri(image, "webp", quality=85, method=4)


def png_uri(pixels: np.ndarray) -> str:
    """The same as PNG, every pixel as it is."""
    return _uri(_image(pixels), "png", optimize=True)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
