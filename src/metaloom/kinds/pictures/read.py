"""Bytes of an image file → uint8 pixels."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from metaloom.errors import MetaloomError

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".jpe",
    ".bmp",
    ".webp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
)
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")
IN_WORDS = "PNG, JPEG, BMP, WebP, GIF, TIFF, AVIF or HEIC"
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


# what files begin with; not BMP's two letters, nor TIFF's, which raw photos have too
_MARKS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
COLOURED, A_FEW = 40, 0.02  # levels between a pixel's channels; share of the pixels
_LIGHT = 192  # a colour of which all channels are above it hardly shows on white

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


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is one of the `FORMATS`; of BMP and TIFF only the name tells."""
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_MARKS) or is_webp or bool(_brands(head) & {b"avif", *_HEIC_BRANDS})


def _brands(head: bytes) -> set[bytes]:
    """The brands that an ISO media file names in its first 32 bytes; none where it is no such file."""
    return {head[place : place + 4] for place in range(8, 32, 4)} if head[4:8] == b"ftyp" else set()


def _formats_of(content: bytes) -> tuple[str, ...]:
    """Formats that Pillow may open these bytes as; raises MetaloomError for HEIC where its plugin is not installed."""
    if not _brands(content[:32]) & _HEIC_BRANDS:
        return FORMATS
    try:
        import pillow_heif
    except ImportError:
        raise MetaloomError("is a HEIC picture: `pip install 'metaloom[heic]'` reads those") from None
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def is_blank(pixels: UInt8[np.ndarray, "height width channel"]) -> bool:
    """Whether there is nothing to be seen: all pixels are alike."""
    return bool((pixels == pixels[0, 0]).all())


def is_coloured(pixels: UInt8[np.ndarray, "height width 3"]) -> bool:
    """Whether more than a few pixels are far from grey, as they are in no photograph or scan of something grey."""
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    return bool((spread > COLOURED).mean() > A_FEW)


def decode(content: bytes, channels: int) -> UInt8[np.ndarray, "height width channel"]:
    """Pixels of an image file in one of the `FORMATS`, whatever its name ends in, upright and on white paper.

    Transparency is composited on white, but a shape in one light colour is drawn in black: on white it would not be
    seen. 16 bits per channel are scaled to 8, an EXIF orientation is applied, of an animation the first frame is taken,
    of a document the first page.

    Args:
        content: the file's bytes.
        channels: 1 for grey (ITU-R 601 luma), 3 for colour.

    Raises:
        MetaloomError: this is no such image, it is damaged, it has more than 64 megapixels or too long a side, or it
            is a HEIC picture and what reads those is not installed.
    """
    if not content:
        raise MetaloomError("is empty")
    formats = _formats_of(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of damaged data about the picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=formats) as image:
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
    image = image.convert("RGBA")
    if _is_light_shape(np.asarray(image)):
        return ImageOps.invert(image.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _is_light_shape(pixels: UInt8[np.ndarray, "height width 4"]) -> bool:
    """Whether all that is to be seen has one colour, which is light, so that transparency alone gives it a shape."""
    colours, alpha = pixels[..., :3], pixels[..., 3]
    seen = colours[alpha > 0]
    return bool(len(seen) and alpha.min() < 255 and (seen == seen[0]).all() and seen[0].min() >= _LIGHT)


def _orientation(image: Image.Image) -> int:
    """The EXIF tag for how the picture is turned; upright where the EXIF data are damaged: the pixels may be whole."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except (*_DAMAGED, AttributeError):
        return UPRIGHT


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
