"""Decode every example of a listing once, on all cores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from metaloom.data.sources import Listing, read_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, Tables
from metaloom.system.arrays import reserved
from metaloom.system.parallel import parallel_map
from metaloom.system.terminal import bar

_BATCH_FILES = 256
_BATCH_BYTES = 8 * 2**20
LOOKED_AT = 16  # of so many examples one is looked at for what decoding takes from it
Raw = tuple[int, bytes | str]


@dataclass(frozen=True)
class Decoded:
    """One example, packed (None when it cannot be read, `reason` says why)."""

    index: int
    sha256: str
    digest: bytes  # of the decoded example as it is
    reason: str
    packed: np.ndarray | None
    shape: tuple[int, ...] = ()  # as it would be packed; () where the kind makes all alike
    raw: tuple[int, ...] = ()  # its shape as it is
    trait: float | None = None  # see `Kind.trait`
    lost: str | None = None  # see `Kind.lost`; None: not looked at


@dataclass(frozen=True)
class Scan:
    """What is known of every item of the listing, in its order; equal `digests` are equal examples.

    `shapes` and `traits` are those of the decoded examples, `lost` what decoding took from some of them.
    """

    listing: Listing
    sha256: list[str]
    digests: list[bytes]
    reasons: list[str]  # empty for a readable example
    shapes: list[tuple[int, ...]]
    traits: list[float | None]
    lost: list[str | None]


def scan(listing: Listing, packed: Path | None = None) -> Scan:
    """Read, decode and hash all items of a listing.

    Args:
        packed: where to write them as one .npy array (item, *shape); None: nowhere.
    """
    n, kind = len(listing.items), listing.kind
    array = _Array(packed, n) if packed is not None else None
    sha256, digests, reasons = [""] * n, [b""] * n, [""] * n
    shapes: list[tuple[int, ...]] = [()] * n
    traits: list[float | None] = [None] * n
    lost: list[str | None] = [None] * n
    work = partial(_decode_batch, kind=kind, pack=packed is not None)
    first: tuple[int, ...] | None = None
    with bar(f"reading {kind.many}", n) as running:
        done = 0
        for batch in parallel_map(work, _batches(read_sources(listing))):
            for each in batch:
                sha256[each.index], digests[each.index] = each.sha256, each.digest
                reasons[each.index] = each.reason
                shapes[each.index], traits[each.index], lost[each.index] = each.raw, each.trait, each.lost
                if each.reason:
                    continue
                first = each.shape if first is None else first
                reasons[each.index] = _misfit(each.shape, first)
                if array is not None and each.packed is not None and each.shape == first:
                    array.put(each.index, each.packed)
            done += len(batch)
            running.update(done)
    if array is not None:
        array.close()
    return Scan(listing, sha256, digests, reasons, shapes, traits, lost)


def _misfit(shape: tuple[int, ...], first: tuple[int, ...]) -> str:
    """Why an example of this shape does not fit the first one; nothing where it does."""
    if shape == first:
        return ""
    has, others = ("×".join(map(str, each)) for each in (shape, first))
    return f"has {has} numbers where the first example has {others}"


class _Array:
    """The packed examples on disk; the first one says in which shape."""

    def __init__(self, path: Path, items: int) -> None:
        self._path, self._items = path, items
        self._array: np.memmap | None = None

    def put(self, index: int, example: np.ndarray) -> None:
        if self._array is None:
            shape = (self._items, *example.shape)
            self._array = reserved(self._path, example.dtype, shape)
        self._array[index] = example

    def close(self) -> None:
        if self._array is not None:
            self._array.flush()


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


def _decode_batch(batch: list[Raw], kind: Kind, pack: bool) -> list[Decoded]:
    return [_decode_one(index, content, kind, pack) for index, content in batch]


def _decode_one(index: int, content: bytes | str, kind: Kind, pack: bool) -> Decoded:
    if isinstance(content, str):
        return Decoded(index, "", b"", content, None)
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        example = kind.decode(content)
    except MetaloomError as error:
        return Decoded(index, sha256, b"", str(error), None)
    if flaw := kind.flaw(example):
        return Decoded(index, sha256, b"", flaw, None)
    # rows are compared where nothing is packed too, so that `data check` finds what `prepare` finds
    packed = kind.pack(example) if pack or isinstance(kind, Tables) else None
    shape = () if packed is None else packed.shape
    digest, trait = digest_of(example), kind.trait(example)
    lost = None if index % LOOKED_AT else kind.lost(content)
    return Decoded(index, sha256, digest, "", packed if pack else None, shape, example.shape, trait, lost)


def digest_of(example: np.ndarray) -> bytes:
    """Of a decoded example, so that the same one in another file format is found too."""
    digest = hashlib.blake2b(repr(example.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(example).data)
    return digest.digest()
