"""The packed data set: every usable example decoded once, in one shape, in one memory-mapped array."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, kind_from
from metaloom.system.arrays import reserved
from metaloom.system.files import makes_again, read_json, write_json

if TYPE_CHECKING:  # who reads a data set does not depend on how it was scanned
    from metaloom.data.scan import Scan

ITEMS, EXAMPLES = "items.parquet", "examples.npy"
QUALITY, KIND = "quality.json", "kind.json"
BEHIND = "dataset.json"  # in a folder of the stage `embed`, and in `OWN`: names that of `prepare`
OWN = "own"  # folder in one that is packed for an encoder: the same examples, packed as their own settings say
_CHUNK = 1024

_SCHEMA = pa.schema(
    [
        ("row", pa.int32()),
        ("class", pa.string()),
        ("domain", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("split", pa.string()),
    ]
)


@dataclass(frozen=True)
class Dataset:
    """One prepared data set.

    Attributes:
        examples: (item, *shape) as the kind packs them, memory-mapped, read only.
        items: one row per example, in the order of `examples`, sorted by domain, class and source: the rows of a
            class are contiguous. Columns row, class (unique over the data set), domain, source, sha256 (of
            the raw file; of a file of many examples, of what `Row.content` is), split (that data/ itself has the
            class in; "" where it has none).
        quality: what was seen, used and left out, and why.
        kind: of the examples.
    """

    examples: np.ndarray
    items: pd.DataFrame
    quality: dict[str, Any]
    kind: Kind

    @classmethod
    def load(cls, folder: str | Path) -> Dataset:
        """Open what `write_dataset` wrote.

        Args:
            folder: artifacts/dataset, a copy of it, or artifacts/encoded: then the examples are as an encoder gives
                them, where there is one.

        Raises:
            MetaloomError: a file is absent or damaged, or they do not fit each other.
        """
        own, folder = Path(folder), behind(folder)
        own = own if (own / KIND).is_file() else folder
        quality = read_json(folder / QUALITY, made_by="prepare")
        kind = kind_from(read_json(own / KIND, made_by="prepare"), own / KIND, makes_again("prepare"))
        try:
            examples = np.load(own / EXAMPLES, mmap_mode="c", allow_pickle=False)
            items = pq.read_table(folder / ITEMS, schema=_SCHEMA).to_pandas()
        except (OSError, ValueError, EOFError, pa.ArrowException) as error:
            raise MetaloomError(f"{folder} is damaged ({error}): {makes_again('prepare')}") from None
        if len(examples) != len(items):
            raise MetaloomError(
                f"{folder} is damaged: {EXAMPLES} holds {len(examples)} {kind.many} for {len(items)} items: "
                f"{makes_again('prepare')}"
            )
        return cls(examples, items, quality, kind)

    def let_go(self) -> None:
        """Give back the memory of the pages of `examples` that have been read: they count as ours until then."""
        mapped = getattr(self.examples, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def seen_as(folder: str | Path, takes: Callable[[tuple[int, ...], str], bool]) -> np.ndarray:
    """The examples of a folder as an encoding takes them: an encoder's rows, what it saw, or what does without it.

    Args:
        folder: as of `Dataset.load`.
        takes: whether it takes an example of a shape and dtype.

    Raises:
        MetaloomError: a file is absent or damaged.
    """
    examples = np.zeros(0)
    for place in dict.fromkeys((Path(folder), behind(folder), without_encoder(folder))):
        examples = Dataset.load(place).examples
        if takes(examples.shape[1:], str(examples.dtype)):
            break
    return examples


def without_encoder(folder: str | Path) -> Path:
    """The folder of the examples that are learned from without the encoder that sees them too.

    Args:
        folder: as of `Dataset.load`.
    """
    own = behind(folder) / OWN
    return own if own.is_dir() else behind(folder)


def behind(folder: str | Path) -> Path:
    """The folder of the stage `prepare` that one of the stage `embed` is made of; any other folder itself."""
    named = Path(folder) / BEHIND
    return Path(read_json(named)["dataset"]) if named.is_file() else Path(folder)


def write_dataset(folder: Path, scan: Scan, scratch: Path, used: list[int], quality: dict[str, Any]) -> None:
    """Write the files of a data set into an existing folder.

    Args:
        scratch: the .npy array of all scanned examples; it is taken over or removed.
        used: the rows of `scratch` to keep, ascending.
    """
    items = [scan.listing.items[index] for index in used]
    columns = {
        "row": range(len(items)),
        "class": [item.class_name for item in items],
        "domain": [item.domain for item in items],
        "source": [item.source for item in items],
        "sha256": [scan.sha256[index] for index in used],
        "split": [item.split for item in items],
    }
    pq.write_table(pa.table(columns, schema=_SCHEMA), folder / ITEMS)
    _keep_rows(scratch, folder / EXAMPLES, used)
    write_json(folder / QUALITY, quality)
    write_json(folder / KIND, scan.listing.kind.described())


def write_own(folder: Path, scan: Scan, scratch: Path, dataset: str) -> None:
    """Write `OWN` into a data set's folder.

    Args:
        folder: of the data set, which is going to be called `dataset`.
        scan: of the examples that the data set has, in its order.
        scratch: the .npy array of them; it is taken over.
        dataset: the folder's name.
    """
    own = folder / OWN
    own.mkdir()
    scratch.rename(own / EXAMPLES)
    write_json(own / KIND, scan.listing.kind.described())
    write_json(own / BEHIND, {"dataset": dataset})


def _keep_rows(scratch: Path, target: Path, used: list[int]) -> None:
    everything = np.load(scratch, mmap_mode="r")
    if len(used) == len(everything):
        scratch.rename(target)
        return
    shape = (len(used), *everything.shape[1:])
    kept = reserved(target, everything.dtype, shape)
    for rows in _chunks(len(used)):
        kept[rows] = everything[used[rows]]
    kept.flush()
    scratch.unlink()


def _chunks(total: int) -> Iterator[slice]:
    for start in range(0, total, _CHUNK):
        yield slice(start, start + _CHUNK)
