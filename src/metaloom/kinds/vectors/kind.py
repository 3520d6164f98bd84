"""Vectors as a kind of example: a file is a table, a row an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32

from metaloom.errors import MetaloomError
from metaloom.kinds.base import Row, Table, Tables
from metaloom.kinds.columns import LABEL, as_csv, is_number, only_classes
from metaloom.kinds.fitted import numbers_in, scales_in
from metaloom.kinds.vectors.read import names_of, places, read_rows
from metaloom.kinds.vectors.show import Profiles

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from metaloom.kinds.vectors.encode import VectorEncoding


@dataclass(frozen=True)
class Vectors(Tables):
    """Rows of numbers; a column labels them, and another may say which family the class is of.

    Args:
        scaling: "standard": each feature to mean 0 and deviation 1 over the training classes; "none": as it is.
        label: the column of classes; None: `class`, or another of its usual names.
        domain: the column of domains, likewise; there need not be one.
        columns: names of the features in their order; (): not known, so a table's own order holds.
    """

    scaling: Literal["standard", "none"] = "standard"
    label: str | None = None
    domain: str | None = None
    columns: tuple[str, ...] = ()

    name: ClassVar[str] = "vectors"
    noun: ClassVar[str] = "row"
    one: ClassVar[str] = "row"
    many: ClassVar[str] = "rows"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".parquet", ".arrow", ".npz", ".npy")
    formats: ClassVar[str] = "CSV, TSV, Parquet, Arrow or NumPy"
    network: ClassVar[str] = "mlp"
    layout: ClassVar[str] = "domain.csv with a column `class` and a column for each number"
    chances: ClassVar[int] = 2

    def table(self, content: bytes) -> Table:
        names, domains, labels, numbers = read_rows(content, self.label, self.domain, self.columns)
        kind = self if self.columns else replace(self, columns=names)
        each = zip(domains, labels, numbers[:, places(names, kind.columns)], strict=True)
        return Table(kind, [Row(domain, label, values.tobytes()) for domain, label, values in each])

    def written(self, rows: Sequence[Row]) -> str:
        numbers = (np.frombuffer(row.content, np.float32) for row in rows)  # as float32: 0.1, not 0.10000000149011612
        lines = ((str(row.label), *map(str, own)) for row, own in zip(rows, numbers, strict=True))
        return as_csv((self.label or "class", *self.columns), lines)

    def columns_in(self, sample: pd.DataFrame) -> dict[str, str] | None:
        """Those of classes and domains, where all others are of numbers; a single other one has to be of classes."""
        names = [str(name) for name in sample.columns]
        found = names_of(names, self.label, self.domain, self.columns)
        words = [name for name in names if name not in found.values() and not is_number(sample[name])]
        if LABEL not in found and len(words) == 1 and only_classes(sample, words):
            found[LABEL] = words.pop()
        return None if words or len(found) == len(names) else found

    def usual_columns(self, names: Sequence[str]) -> dict[str, str]:
        return names_of(names, None, None, ())

    def decode(self, content: bytes) -> Float32[np.ndarray, " feature"]:
        values = np.frombuffer(content, np.float32)
        if not np.isfinite(values).all():
            raise MetaloomError("has a number that is missing or infinite")
        return values

    def pack(self, example: Float32[np.ndarray, " feature"]) -> Float32[np.ndarray, " feature"]:
        return example

    def packed_in_words(self, packed: Float32[np.ndarray, "item feature"]) -> str:
        return f"{packed.shape[1]} numbers each"

    def shown(self, packed: Float32[np.ndarray, "item feature"]) -> Profiles:
        return Profiles(packed)

    def fitted(self, packed: Float32[np.ndarray, "item feature"]) -> VectorEncoding:
        from metaloom.kinds.vectors.encode import VectorEncoding

        return VectorEncoding.of(packed, self)

    def encoding(self, saved: dict[str, Any]) -> VectorEncoding:
        from metaloom.kinds.vectors.encode import VectorEncoding

        shift = numbers_in(saved, "shift", len(self.columns) or None)
        return VectorEncoding(self, shift, scales_in(saved, "scale", len(shift)))

    def untrained(self, packed: Tensor) -> Tensor:
        return packed.sign() * packed.abs().log1p()

    def distorted(self, x: Tensor, chances: Tensor, strength: float) -> Tensor:
        from metaloom.kinds.vectors.encode import jittered

        return jittered(x, chances, strength)
