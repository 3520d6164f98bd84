"""Decode every example of a listing once, on all cores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
LOOKED_AT = 256  # examples at most that decide how all are read: 19 times of 20, their share is at most 6 points off
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


@dataclass(frozen=True)
class Scan:
    """What is known of every item of the listing, in its order; equal `digests` are equal examples.

    `shapes` and `traits` are those of the decoded examples; the listing's kind is settled, and `reading` says how.
    """

    listing: Listing
    reading: str
    sha256: list[str]
    digests: list[bytes]
    reasons: list[str]  # empty for a readable example
    shapes: list[tuple[int, ...]]
    traits: list[float | None]


def scan(listing: Listing, packed: Path | None = None) -> Scan:
    """Read, decode and hash all items of a listing.

    Args:
        packed: where to write them as one .npy array (item, *shape); None: nowhere.
    """
    listing, reading = _settled(listing)
    n, kind = len(listing.items), listing.kind
    array = _Array(packed, n) if packed is not None else None
    sha256, digests, reasons = [""] * n, [b""] * n, [""] * n
    shapes: list[tuple[int, ...]] = [()] * n
    traits: list[float | None] = [None] * n
    work = partial(_decode_batch, kind=kind, pack=packed is not None)
    first: tuple[int, ...] | None = None
    with bar(f"reading {kind.many}", n) as running:
        done = 0
        for batch in parallel_map(work, _batches(read_sources(listing))):
            for each in batch:
                sha256[each.index], digests[each.index] = each.sha256, each.digest
                reasons[each.index] = each.reason
                shapes[each.index], traits[each.index] = each.raw, each.trait
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
    return Scan(listing, reading, sha256, digests, reasons, shapes, traits)


def _settled(listing: Listing) -> tuple[Listing, str]:
    """With what is left to the data of how its examples are read, as some of them decide; and that in words.

    They are drawn, so that no order of the files matters, and the same ones each time. They are looked at whether it
    was left to them or not, so that the words are the same.
    """
    if not listing.kind.looks:
        return listing, ""
    places = np.sort(np.random.default_rng(0).permutation(len(listing.items))[:LOOKED_AT])
    some = replace(listing, items=[listing.items[place] for place in places])
    batches = parallel_map(partial(_look, kind=listing.kind), _batches(read_sources(some)))
    looks = [look for batch in batches for look in batch if look is not None]
    kind = listing.kind.settled(sum(looks), len(looks))
    return replace(listing, kind=kind), kind.reading(sum(looks), len(looks))


def _look(batch: list[Raw], kind: Kind) -> list[bool | None]:
    return [kind.look(content) for _, content in batch if isinstance(content, bytes)]


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
    return Decoded(index, sha256, digest, "", packed if pack else None, shape, example.shape, trait)


def digest_of(example: np.ndarray) -> bytes:
    """Hash of a decoded example, so that the same one in another file format is found too."""
    digest = hashlib.blake2b(repr(example.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(example).data)
    return digest.digest()
