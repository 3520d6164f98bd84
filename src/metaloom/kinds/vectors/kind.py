"""Vectors as a kind of example: a file is a table, a row an example."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32

from metaloom.errors import MetaloomError
from metaloom.kinds.base import Row, Table, Tables
from metaloom.kinds.vectors.show import Profiles
from metaloom.system.plural import some

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from metaloom.kinds.vectors.encode import VectorEncoding

CLASS, DOMAIN = "class", "domain"
PARQUET = b"PAR1"  # what the file begins with
MARK = "="
NAMELESS = re.compile(r"\s*|Unnamed: \d+")  # the second is what pandas makes of the first
SHOWN = 4  # columns that a message names


@dataclass(frozen=True)
class Vectors(Tables):
    """Rows of numbers; the column `class` labels them, `domain` may say which family the class is of.

    Args:
        scaling: "standard": each feature to mean 0 and deviation 1 over the training classes; "none": as it is.
        columns: names of the features in their order; (): not known, so a table's own order holds.
    """

    scaling: Literal["standard", "none"] = "standard"
    columns: tuple[str, ...] = ()

    name: ClassVar[str] = "vectors"
    noun: ClassVar[str] = "row"
    one: ClassVar[str] = "row"
    many: ClassVar[str] = "rows"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".parquet")
    formats: ClassVar[str] = "CSV or Parquet"
    layout: ClassVar[str] = "domain.csv with a column `class` and a column for each number"
    chances: ClassVar[int] = 2

    def table(self, content: bytes) -> Table:
        table = _read(content)
        _refuse_nameless(table)
        domains, labels = _words(table, DOMAIN), _words(table, CLASS)
        numbers, found = _numbers(table), tuple(table.columns)
        kind = self if self.columns else replace(self, columns=found)
        each = zip(domains, labels, numbers[:, _places(found, kind.columns)], strict=True)
        return Table(kind, [Row(domain, label, values.tobytes()) for domain, label, values in each])

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

        return VectorEncoding(self, tuple(saved["shift"]), tuple(saved["scale"]))

    def untrained(self, packed: Tensor) -> Tensor:
        return packed.sign() * packed.abs().log1p()

    def distorted(self, x: Tensor, chances: Tensor, strength: float) -> Tensor:
        from metaloom.kinds.vectors.encode import jittered

        return jittered(x, chances, strength)


def _read(content: bytes) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        if content.startswith(PARQUET):
            table = pd.read_parquet(io.BytesIO(content))
        else:
            table = pd.read_csv(io.BytesIO(content), converters={CLASS: _marked, DOMAIN: _marked}, encoding="utf-8")
            if not isinstance(table.index, pd.RangeIndex):  # a name too few: pandas has taken the first column for it
                table.insert(0, "", 0)
            for name in table.columns.intersection([CLASS, DOMAIN]):
                table[name] = table[name].str.removeprefix(MARK)
    except (ValueError, pa.ArrowException, OSError) as error:  # pandas' own errors are ValueErrors
        raise MetaloomError(f"is no CSV or Parquet table ({str(error).splitlines()[0]}): fix or remove it") from None
    return table.rename(columns=str)


def _refuse_nameless(table: pd.DataFrame) -> None:
    """A line's number is such a column, and where the classes stand one after another it gives each away."""
    if any(NAMELESS.fullmatch(name) for name in table.columns):
        raise MetaloomError(
            "has a column without a name (pandas writes its index so: to_csv(index=False)): leave it out"
        )


def _marked(cell: str) -> str:
    """No word such as NA or None any more, which pandas takes for a missing value: a class may be called so."""
    return MARK + cell


def _words(table: pd.DataFrame, name: str) -> list[str | None]:
    """The column, which is taken out of the table; None for an empty cell, and for each where there is no column."""
    if name not in table:
        return [None] * len(table)
    column = table.pop(name)
    cells = zip(column, column.notna(), strict=True)
    return [(str(cell).strip() or None) if there else None for cell, there in cells]


def _numbers(table: pd.DataFrame) -> Float32[np.ndarray, "item feature"]:
    try:
        numbers = table.to_numpy(np.float32)
    except (TypeError, ValueError):
        raise MetaloomError(f"has columns that are no numbers: {_texts(table)}; leave them out") from None
    if not numbers.shape[1]:
        raise MetaloomError("has no column of numbers: add one, or remove it")
    return numbers


def _places(found: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """Where in a table the columns stand that a data set or a model has.

    Raises:
        MetaloomError: they are named otherwise.
    """
    places = {name: place for place, name in enumerate(found)}
    missing = [name for name in wanted if name not in places]
    new = places.keys() - set(wanted)
    if missing or new:
        differ = [f"{name} is missing" for name in missing] + [f"{name} is new" for name in found if name in new]
        raise MetaloomError(
            f"has other columns than the training data or the tables before it: {some(differ, SHOWN)}; "
            "give it the same names"
        )
    return [places[name] for name in wanted]


def _texts(table: pd.DataFrame) -> str:
    return ", ".join(name for name in table.columns if table[name].dtype.kind not in "biuf")
