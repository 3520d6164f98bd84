"""Texts as a kind of example: a file is a table, a row a text with its class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Int32, Shaped
from pydantic import Field

from metaloom.errors import MetaloomError
from metaloom.kinds.base import Row, Table, Tables
from metaloom.kinds.columns import DOMAIN, LABEL, TEXT, as_csv, given, is_number, only_classes, only_texts, usual
from metaloom.kinds.fitted import numbers_in, texts_in
from metaloom.kinds.text.read import Columns, lines_of, read_rows
from metaloom.kinds.text.show import Quotations
from metaloom.system.plural import several

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from metaloom.kinds.text.encode import TextEncoding

LEAST = 128  # characters of a packed text: texts that come later may be longer than those of training
LINES = ".txt"  # what the name of a file of plain lines ends in


@dataclass(frozen=True)
class Text(Tables):
    """Short texts such as questions to an assistant; they are packed as code points (character), zeros at the end.

    Args:
        features: the most n-grams of characters that a text is described by.
        length: characters of a text that are read at most.
        text: the column of texts; None: found by its usual names.
        label: the column of classes, likewise.
        domain: the column of domains, likewise; there need not be one.
        characters: of a packed text, as the data have decided it; 0: not yet.
        cased: whether packed texts keep their capitals, as an encoder may tell them apart.
    """

    features: Annotated[int, Field(ge=1, le=65536)] = 8192
    length: Annotated[int, Field(ge=4, le=100_000)] = 1000
    text: str | None = None
    label: str | None = None
    domain: str | None = None
    characters: Annotated[int, Field(ge=0, le=100_000)] = 0
    cased: bool = False

    name: ClassVar[str] = "text"
    noun: ClassVar[str] = "text"
    one: ClassVar[str] = "text"
    many: ClassVar[str] = "texts"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".jsonl", ".parquet", ".arrow")
    formats: ClassVar[str] = "CSV, TSV, JSON lines, Parquet or Arrow"
    network: ClassVar[str] = "linear"
    layout: ClassVar[str] = "domain.csv with the columns `text` and `label`"

    def table(self, content: bytes) -> Table:
        rows = read_rows(content, Columns(self.text, self.label, self.domain))
        longest = max((len(row.content.decode()) for row in rows), default=0)
        return Table(self._packing(longest), rows)

    def written(self, rows: Sequence[Row]) -> str:
        header = (self.text or TEXT, self.label or LABEL)
        return as_csv(header, ((row.content.decode(), str(row.label)) for row in rows))

    def columns_in(self, sample: pd.DataFrame) -> dict[str, str] | None:
        """A column of its usual name, if it is not of numbers, else the one with several words in its cells."""
        names = [str(name) for name in sample.columns]
        found = {
            what: given(what, getattr(self, what), names, self.name) or usual(what, names)
            for what in (TEXT, LABEL, DOMAIN)
        }
        rest = [name for name in names if name not in found.values()]
        if self.text is None and (found[TEXT] is None or is_number(sample[found[TEXT]])):
            found[TEXT] = only_texts(sample, rest)
        if found[TEXT] is None:
            return None
        found[LABEL] = found[LABEL] or only_classes(sample, [name for name in rest if name != found[TEXT]])
        return {what: name for what, name in found.items() if name is not None}

    def _packing(self, longest: int) -> Text:
        """The kind with room for a text of so many characters, where the setting allows it."""
        return replace(self, characters=min(self.length, max(LEAST, self.characters, longest)))

    def spelled(self, argument: str) -> list[tuple[str, bytes]] | None:
        """A text itself, or the lines of a file of plain text."""
        path, there = Path(argument), _is_there(argument)
        if there and path.is_file() and path.suffix.lower() == LINES:
            return [(f"{argument}#{number}", line) for number, line in lines_of(path)]
        if there or path.suffix.lower() in (*self.suffixes, LINES):
            return None
        return [(argument or "''", " ".join(argument.split()).encode("utf-8", "replace"))]

    def decode(self, content: bytes) -> Shaped[np.ndarray, ""]:
        text = content.decode("utf-8")
        if not text:
            raise MetaloomError("is empty: write a text, or remove the row")
        if "\0" in text:  # the end of a text to whatever is written in C
            raise MetaloomError("has a NUL character: remove it")
        return np.array(text)

    def pack(self, example: Shaped[np.ndarray, ""]) -> Int32[np.ndarray, " character"]:
        """Its code points, A to Z in lower case as the graph has them unless `cased`, tabs and line ends as spaces."""
        size = self.characters or self.length
        points = np.frombuffer(self.read(str(example)).encode("utf-32-le", "replace"), np.int32)
        if not self.cased:
            points = np.where((points >= ord("A")) & (points <= ord("Z")), points + 32, points)
        points = np.where(np.isin(points, [9, 10, 13]), 32, points)
        return np.pad(points, (0, size - len(points))).astype(np.int32)

    def read(self, text: str) -> str:
        """What of a text is read."""
        return text[: self.characters or self.length]

    def trait(self, example: Shaped[np.ndarray, ""]) -> float:
        """Its characters."""
        return float(len(str(example)))

    def oddities(self, traits: Iterable[tuple[str, str, float | None]]) -> list[str]:
        cut = sum(trait is not None and trait > self.length for *_, trait in traits)
        if not cut:
            return []
        return [f"{several(cut, 'text')} of more than {self.length:,} characters: the rest is not read (text.length)"]

    def packed_in_words(self, packed: Int32[np.ndarray, "item character"]) -> str:
        return f"{packed.shape[1]:,} characters each at most" + ("" if self.cased else ", A to Z in lower case")

    def shown(self, packed: Int32[np.ndarray, "item character"]) -> Quotations:
        return Quotations(packed)

    variants: ClassVar[bool] = False  # the weights that they would make smaller are few
    enough: ClassVar[int] = 10_000

    def fitted(self, packed: Int32[np.ndarray, "item character"]) -> TextEncoding:
        from metaloom.kinds.text.encode import TextEncoding

        return TextEncoding.of(packed, self)

    def encoding(self, saved: dict[str, Any]) -> TextEncoding:
        from metaloom.kinds.text.encode import TextEncoding
        from metaloom.kinds.text.grams import LENGTHS

        if self.characters and self.characters < LENGTHS[-1]:
            raise ValueError(f"characters is {self.characters}: an n-gram has up to {LENGTHS[-1]}")
        grams = texts_in(saved, "grams")
        if odd := next((each for each in grams if len(each) not in LENGTHS), None):
            raise ValueError(f"grams holds {odd[:20]!r}, which has not 2 to 4 characters")
        return TextEncoding(self, grams, numbers_in(saved, "idf", len(grams)))

    def untrained(self, packed: Tensor) -> Tensor:
        from metaloom.kinds.text.grams import hashed

        return hashed(packed)


def _is_there(argument: str) -> bool:
    """Whether it names a file or folder; a text may be longer than any name, and no text is not this folder."""
    try:
        return bool(argument) and Path(argument).exists()
    except OSError:
        return False
