"""A few examples as they came, to be shown beside what the network sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from metaloom.data.scan import Scan
from metaloom.data.sources import read_sources

FILE = "preview.npz"
EVENLY = 4  # examples, beside the two whose sides differ most


@dataclass(frozen=True)
class Preview:
    """One example before it was packed.

    Args:
        row: of the data set.
        size: height and width of the file.
        pixels: in colour, reduced.
    """

    row: int
    size: tuple[int, int]
    pixels: UInt8[np.ndarray, "height width 3"]


def write_preview(folder: Path, scan: Scan, used: Sequence[int]) -> None:
    """Of a few of the used examples; nothing where packing changes none of them."""
    if not scan.listing.kind.previews:
        return
    chosen, listing = _chosen([scan.shapes[index] for index in used]), scan.listing
    items, kind = [listing.items[used[row]] for row in chosen], scan.listing.kind
    found: dict[str, Any] = {}  # arrays
    changed = False
    for place, content in read_sources(replace(listing, items=items)):
        if isinstance(content, bytes) and (pixels := kind.preview(content)) is not None:
            found[str(chosen[place])] = pixels
            packed = kind.pack(kind.decode(content))
            changed |= pixels.shape[:2] != packed.shape[:2] or bool((pixels != packed).any())
    if changed:
        sizes = [scan.shapes[used[int(row)]][:2] for row in found]
        np.savez(folder / FILE, rows=np.array([int(row) for row in found]), sizes=np.array(sizes), **found)


def _chosen(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """The widest, the highest, and a few from all over."""
    ratios = [shape[1] / shape[0] if len(shape) > 1 else 1.0 for shape in shapes]
    places = np.linspace(0, len(shapes) - 1, min(EVENLY, len(shapes))).astype(int).tolist()
    return list(dict.fromkeys([int(np.argmax(ratios)), int(np.argmin(ratios)), *places]))


def read_preview(folder: Path) -> list[Preview]:
    """What `write_preview` wrote."""
    if not (folder / FILE).is_file():
        return []
    with np.load(folder / FILE, allow_pickle=False) as file:
        rows, sizes = file["rows"].tolist(), file["sizes"].tolist()
        return [Preview(row, (size[0], size[1]), file[str(row)]) for row, size in zip(rows, sizes, strict=True)]
