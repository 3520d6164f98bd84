"""A few examples as they came, to be shown beside what the network sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from metaloom.data.scan import Scan
from metaloom.data.sources import read_sources
from metaloom.system.files import read_json, write_json

FILE = "preview.json"
EVENLY = 4  # examples, beside the two whose sides differ most


@dataclass(frozen=True)
class Preview:
    """One example before it was packed: its row in the data set, a data: URI of it, its size in words."""

    row: int
    uri: str
    size: str


def write_preview(folder: Path, scan: Scan, used: Sequence[int]) -> None:
    """Write what a few of the used examples look like before they are packed; nothing where packing changes none."""
    if not scan.listing.kind.previews:
        return
    chosen, listing = _chosen([scan.shapes[index] for index in used]), scan.listing
    items, kind = [listing.items[used[row]] for row in chosen], scan.listing.kind
    found: list[Preview] = []
    changed = False
    for place, content in read_sources(replace(listing, items=items)):
        if isinstance(content, bytes) and (seen := kind.preview(content)) is not None:
            found.append(Preview(chosen[place], *seen))
            changed |= seen[0] != kind.shown(kind.pack(kind.decode(content))[None]).uri(0)
    if changed:
        write_json(folder / FILE, [asdict(each) for each in found])


def _chosen(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """The two whose sides differ most, and a few from all over."""
    ratios = [shape[1] / shape[0] if len(shape) > 1 else 1.0 for shape in shapes]
    places = np.linspace(0, len(shapes) - 1, min(EVENLY, len(shapes))).astype(int).tolist()
    return list(dict.fromkeys([int(np.argmax(ratios)), int(np.argmin(ratios)), *places]))


def read_preview(folder: Path) -> list[Preview]:
    """What `write_preview` wrote."""
    if not (folder / FILE).is_file():
        return []
    return [Preview(**each) for each in read_json(folder / FILE)]
