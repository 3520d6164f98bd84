"""A PNG encoder whose bytes no zlib version can change: the pixels stand uncompressed in stored blocks."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from jaxtyping import UInt8

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLOCK = 65535


def encode_grey16(levels: UInt8[np.ndarray, "height width"]) -> bytes:
    """A greyscale PNG of 4 bits a pixel; levels run from 0 (black) to 15 (white)."""
    height, width = levels.shape
    lines = np.zeros((height, 1 + (width + 1) // 2), np.uint8)  # each begins with its filter, 0: none
    lines[:, 1:] = levels[:, ::2] << 4
    lines[:, 1 : 1 + width // 2] |= levels[:, 1::2]
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(lines.tobytes())) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _stored(content: bytes) -> bytes:
    blocks = [content[start : start + _BLOCK] for start in range(0, len(content), _BLOCK)] or [b""]
    parts = [struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block for block in blocks]
    return b"\x78\x01" + b"".join(parts) + struct.pack(">I", zlib.adler32(content))
