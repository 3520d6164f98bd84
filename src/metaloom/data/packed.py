"""The packed data set: every usable image decoded once, resized, in one memory-mapped array."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from metaloom.data.scan import Scan
from metaloom.errors import MetaloomError
from metaloom.system.files import read_json, write_json

IMAGES, ITEMS, QUALITY = "images.npy", "items.parquet", "quality.json"
_CHUNK = 1024

_SCHEMA = pa.schema(
    [
        ("row", pa.int32()),
        ("class", pa.string()),
        ("domain", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Dataset:
    """One prepared data set.

    images: uint8 (item, height, width, channel), memory-mapped, read only.
    items: one row an image, in the order of `images`, sorted by domain, class and source: the rows of a
        class are contiguous. Columns row, class (unique over the data set), domain, source, sha256 (of the
        raw file).
    quality: what was seen, used and left out, and why.
    """

    images: np.ndarray
    items: pd.DataFrame
    quality: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Dataset:
        """Open what `write_dataset` wrote.

        Raises:
            MetaloomError: a file is absent or damaged, or they do not fit each other.
        """
        folder = Path(folder)
        quality = read_json(folder / QUALITY, made_by="prepare")
        try:
            images = np.load(folder / IMAGES, mmap_mode="c", allow_pickle=False)
            items = pq.read_table(folder / ITEMS, schema=_SCHEMA).to_pandas()
        except (OSError, ValueError, EOFError, pa.ArrowException) as error:
            raise MetaloomError(f"{folder} is damaged ({error}): `dvc repro -f prepare` makes it again") from None
        if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(items):
            raise MetaloomError(
                f"{folder} is damaged: {IMAGES} holds {images.dtype} {images.shape} for {len(items)} items: "
                "`dvc repro -f prepare` makes it again"
            )
        return cls(images, items, quality)

    def let_go(self) -> None:
        """Give back the memory of the pages of `images` that have been read: they count as ours until then."""
        mapped = getattr(self.images, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def write_dataset(folder: Path, scan: Scan, scratch: Path, used: list[int], quality: dict[str, Any]) -> None:
    """Write the three files of a data set into an existing folder.

    Args:
        scratch: the .npy array of all scanned pictures; it is taken over or removed.
        used: the rows of `scratch` to keep, ascending.
    """
    items = [scan.listing.items[index] for index in used]
    columns = {
        "row": range(len(items)),
        "class": [item.class_name for item in items],
        "domain": [item.domain for item in items],
        "source": [item.source for item in items],
        "sha256": [scan.sha256[index] for index in used],
    }
    pq.write_table(pa.table(columns, schema=_SCHEMA), folder / ITEMS)
    _keep_rows(scratch, folder / IMAGES, used)
    write_json(folder / QUALITY, quality)


def _keep_rows(scratch: Path, target: Path, used: list[int]) -> None:
    everything = np.load(scratch, mmap_mode="r")
    if len(used) == len(everything):
        scratch.rename(target)
        return
    shape = (len(used), *everything.shape[1:])
    kept = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    for rows in _chunks(len(used)):
        kept[rows] = everything[used[rows]]
    kept.flush()
    scratch.unlink()


def _chunks(total: int) -> Iterator[slice]:
    for start in range(0, total, _CHUNK):
        yield slice(start, start + _CHUNK)
