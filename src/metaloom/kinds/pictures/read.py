"""Bytes of an image file → uint8 pixels."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from metaloom.errors import MetaloomError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")
IN_WORDS = "PNG, JPEG, BMP, WebP, GIF, TIFF or AVIF"
MAX_PIXELS = 64 * 2**20
LONGEST_SIDE = 65_535  # pixels: the graph resizes exactly up to there, and a thin picture's weights fit in memory

# what Pillow's decoders raise on damaged files; found by flipping bytes (tests/data/test_images.py)
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,  # of the AVIF decoder
    struct.error,
    zlib.error,
)


UPRIGHT = 1
_TURNS = {  # by the EXIF orientation: how it becomes upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(content: bytes, channels: int) -> UInt8[np.ndarray, "height width channel"]:
    """Pixels of an image file in one of the `FORMATS`, whatever its name ends in, upright and on white paper.

    Transparency is composited on white, 16 bits per channel are scaled to 8, an EXIF orientation is applied, of
    an animation the first frame is taken, of a document the first page.

    Args:
        content: the file's bytes.
        channels: 1 for grey (ITU-R 601 luma), 3 for colour.

    Raises:
        MetaloomError: this is no such image, it is damaged, it has more than 64 megapixels or too long a side.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of damaged data about the picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check_size(*image.size)
                pixels = np.asarray(_flattened(image).convert("RGB" if channels == 3 else "L"))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise MetaloomError(f"has more than {MAX_PIXELS // 2**20} megapixels: scale it down") from None
    except Image.UnidentifiedImageError:
        raise MetaloomError(f"is no {IN_WORDS} image") from None
    except _DAMAGED as error:
        raise MetaloomError(f"is damaged: {_reason(error)}") from None
    return pixels.reshape(*pixels.shape[:2], channels)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MetaloomError(f"has {width}x{height} pixels, more than {MAX_PIXELS // 2**20} megapixels: scale it down")
    if max(width, height) > LONGEST_SIDE:
        raise MetaloomError(f"has a side of {max(width, height):,} pixels; at most {LONGEST_SIDE:,} work")


def _flattened(image: Image.Image) -> Image.Image:
    """Upright, 8 bits a channel, without transparency."""
    image.load()  # which turns a TIFF, and forgets its orientation
    turn = _TURNS.get(_orientation(image))
    image = image if turn is None else image.transpose(turn)
    if image.mode == "F":
        raise MetaloomError("has floating-point numbers as pixels: save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):
        wide = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if "transparency" not in image.info and image.mode not in ("LA", "PA", "RGBA", "La", "RGBa"):
        return image
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Of the EXIF data this tag alone; upright where they are damaged, as the pixels may be whole all the same."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except (*_DAMAGED, AttributeError):
        return UPRIGHT


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
