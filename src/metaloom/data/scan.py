"""Decode every image of a listing once, on all cores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from metaloom.data.sources import Listing, read_sources
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.read import decode
from metaloom.kinds.pictures.resize import resize
from metaloom.system.parallel import parallel_map
from metaloom.system.terminal import bar

_BATCH_FILES = 256
_BATCH_BYTES = 8 * 2**20
Raw = tuple[int, bytes | str]


@dataclass(frozen=True)
class Decoded:
    """One file: what it is, and the resized picture (None when it cannot be read, `reason` says why)."""

    index: int
    sha256: str
    pixels_hash: bytes  # of the decoded picture at its own size
    reason: str
    image: np.ndarray | None


@dataclass(frozen=True)
class Scan:
    """What is known of every item of the listing, in its order; equal `pixels` are equal pictures."""

    listing: Listing
    sha256: list[str]
    pixels: list[bytes]
    reasons: list[str]  # empty for a readable image


def scan(listing: Listing, size: int, channels: int, images: Path | None = None) -> Scan:
    """Read, decode and hash all items of a listing.

    Args:
        size: side of the resized pictures in pixels.
        images: where to write them as one .npy array (item, size, size, channel); None: nowhere.
    """
    n = len(listing.items)
    array = None
    if images is not None:
        array = np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=(n, size, size, channels))
    sha256, pixels, reasons = [""] * n, [b""] * n, [""] * n
    work = partial(_decode_batch, size=size if images is not None else None, channels=channels)
    with bar("reading images", n) as running:
        done = 0
        for batch in parallel_map(work, _batches(read_sources(listing))):
            for each in batch:
                sha256[each.index], pixels[each.index] = each.sha256, each.pixels_hash
                reasons[each.index] = each.reason
                if array is not None and each.image is not None:
                    array[each.index] = each.image
            done += len(batch)
            running.update(done)
    if array is not None:
        array.flush()
    return Scan(listing, sha256, pixels, reasons)


def _batches(raw: Iterator[Raw]) -> Iterator[list[Raw]]:
    batch: list[Raw] = []
    weight = 0
    for each in raw:
        batch.append(each)
        weight += len(each[1])
        if len(batch) == _BATCH_FILES or weight > _BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _decode_batch(batch: list[Raw], size: int | None, channels: int) -> list[Decoded]:
    return [_decode_one(index, content, size, channels) for index, content in batch]


def _decode_one(index: int, content: bytes | str, size: int | None, channels: int) -> Decoded:
    if isinstance(content, str):
        return Decoded(index, "", b"", content, None)
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        picture = decode(content, channels)
    except MetaloomError as error:
        return Decoded(index, sha256, b"", str(error), None)
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture).data)
    image = resize(picture[None], size)[0] if size else None
    return Decoded(index, sha256, digest.digest(), "", image)
