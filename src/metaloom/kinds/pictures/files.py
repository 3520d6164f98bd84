"""A user's own picture files, read one by one and refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.read import decode

LONGEST_SIDE = 65_535  # pixels; the resize weights of a thin picture of millions would not fit in memory


def read_picture(path: str | Path, channels: int) -> UInt8[np.ndarray, "height width {channels}"]:
    """Decode a picture file.

    Raises:
        MetaloomError: the file cannot be read, is no whole image, or is too large.
    """
    path = Path(path)
    try:
        image = decode(path.read_bytes(), channels)
    except FileNotFoundError:
        raise MetaloomError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise MetaloomError(f"{path} is a folder; name image files, for example {path}/*.png") from None
    except OSError as error:
        raise MetaloomError(f"{path} cannot be read: {error.strerror or error}") from None
    except (MetaloomError, ValueError) as error:
        raise MetaloomError(f"{path}: {error}") from None
    if max(image.shape[:2]) > LONGEST_SIDE:
        raise MetaloomError(f"{path}: a side of {max(image.shape[:2]):,} pixels; at most {LONGEST_SIDE:,} work")
    return image
