"""Arrays of pixels in the forms that Python's packages have, as the pixels that a file of them is decoded to.

Axes: (image, height, width), or with 1 to 4 channels (grey, grey and alpha, colour, colour and alpha) last, or first as
in torchvision; of one picture the same without the first axis; rows of as many pixels as a packed picture has. Numbers:
uint8; booleans, of which True is white; uint16, scaled as of a file with 16 bits; other whole numbers from 0 to 255;
floats from 0 to 1, or from 0 to 255 where one of them is above 1.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from metaloom.errors import MetaloomError
from metaloom.kinds import Kind

CHANNELS = (1, 2, 3, 4)
PLANES = (1, 3, 4)  # channels that may stand first
WHITE, WIDE = 255, 65535
IN_PNG = {"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"}  # Pillow's modes
ALPHA = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # modes that become others


def batch(pixels: Shaped[np.ndarray, ...], square: tuple[int, int, int]) -> Sequence[np.ndarray]:
    """The pictures of one array, each (height, width, channel).

    Args:
        pixels: of numbers.
        square: height, width and channels of a packed picture.

    Raises:
        MetaloomError: its axes are none of those that are known.
    """
    shape = pixels.shape
    if pixels.dtype.kind not in "buif":
        raise MetaloomError(f"the images are {pixels.dtype} {shape}: give paths, PIL images, or arrays of numbers")
    if pixels.ndim == 4:
        if shape[-1] in CHANNELS:
            return list(pixels)
        if shape[1] in PLANES:
            return list(np.moveaxis(pixels, 1, -1))
    if pixels.ndim == 3 and shape[-1] > max(CHANNELS):
        return list(pixels[..., None])
    if pixels.ndim == 2 and shape[1] == np.prod(square):
        return list(pixels.reshape(-1, *square))
    raise MetaloomError(
        f"the images are an array {shape}: give (image, height, width), (image, height, width, channel), rows of "
        f"{np.prod(square):,} pixels ({' x '.join(map(str, square))}), or a list of pictures, [X] of a single one"
    )


def single(pixels: Shaped[np.ndarray, ...], name: str) -> np.ndarray:
    """One picture as (height, width, channel).

    Args:
        pixels: (height, width), or with channels last or first.
        name: for the message.

    Raises:
        MetaloomError: its axes are none of those.
    """
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.ndim == 3 and pixels.shape[-1] in CHANNELS:
        return pixels
    if pixels.ndim == 3 and pixels.shape[0] in PLANES:
        return np.moveaxis(pixels, 0, -1)
    raise MetaloomError(f"{name} is an array {pixels.shape}: give (height, width) or (height, width, channel)")


def levels(pictures: Sequence[np.ndarray], kind: Kind) -> list[UInt8[np.ndarray, "height width channel"]]:
    """Pixels from 0 to 255, in as many channels as the kind reads files in.

    Args:
        pictures: each (height, width, channel). Whether floats go up to 1 or to 255, all of them decide together.
        kind: of pictures.

    Raises:
        MetaloomError: there are no pixels, numbers are outside, or missing.
    """
    largest = max((float(each.max(initial=0)) for each in pictures if each.dtype.kind == "f"), default=0.0)
    channels = kind.described()["channels"]
    found = []
    for number, each in enumerate(pictures, start=1):
        try:
            found.append(_in_channels(_in_bytes(each, WHITE if largest <= 1 else 1), channels, kind))
        except MetaloomError as error:
            raise MetaloomError(f"image {number} {error}") from None
    return found


def as_png(picture: Image.Image) -> bytes:
    """The file that a picture of Pillow would be, upright.

    Raises:
        MetaloomError: its file is damaged, or its pixels are floating-point numbers.
    """
    if picture.mode == "F":
        raise MetaloomError("has floating-point numbers as pixels: give it as an array, or with 8 bits per channel")
    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode not in IN_PNG:
            upright = upright.convert("I" if upright.mode.startswith("I") else ALPHA.get(upright.mode, "RGB"))
        return _png(upright)
    except (OSError, SyntaxError, ValueError) as error:
        raise MetaloomError(f"is damaged: {' '.join(str(error).split())}") from None


def _in_bytes(pixels: np.ndarray, factor: int) -> UInt8[np.ndarray, "height width channel"]:
    """uint8 pixels; floats are multiplied by the factor."""
    if not pixels.size:
        raise MetaloomError(f"has no pixels {pixels.shape[:2]}: leave it out")
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * WHITE
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) * WHITE + WIDE // 2) // WIDE).astype(np.uint8)
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= WHITE):  # of NaN neither holds
        raise MetaloomError(
            f"has pixels from {low:g} to {high:g}: give 0 to 255, or floats from 0 to 1, as they are before any "
            "normalising"
        )
    return np.rint(pixels * factor if pixels.dtype.kind == "f" else pixels).astype(np.uint8)


def _in_channels(
    pixels: UInt8[np.ndarray, "height width channel"], channels: int, kind: Kind
) -> UInt8[np.ndarray, "height width {channels}"]:
    """As a file of these pixels is read: grey from colours, on white paper where there is transparency."""
    if pixels.shape[-1] == channels:
        return pixels
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return kind.decode(_png(Image.fromarray(np.ascontiguousarray(flat))))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
