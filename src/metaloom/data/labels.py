"""Tables that name the files of examples with their classes: metadata.csv, labels.csv, metadata.jsonl."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from metaloom.errors import MetaloomError
from metaloom.kinds.columns import called, whole
from metaloom.kinds.frames import separator

NAMES = ("metadata.csv", "labels.csv", "metadata.jsonl")
PATH_COLUMNS, LABEL_COLUMNS, DOMAIN_COLUMNS = ("path", "file_name"), ("label", "class"), ("domain",)
# further names of a column of paths, where it names a file beside the table
OTHERS = ("filename", "file name", "file", "image")
COLUMNS = "path (or file_name), label (or class) and, if you like, domain"


class Label(NamedTuple):
    """What a row says of a file; a domain of "" is none."""

    domain: str
    class_name: str


@dataclass(frozen=True)
class LabelTable:
    """A table as it was read.

    Args:
        folder: that its paths start from, inside data/.
        source: the table itself, for messages.
        columns: that it has.
        labels: by path inside data/; empty where it does not label files.
        surely: whether its columns have the names that such a table has; otherwise the files have to bear it out.
    """

    folder: PurePosixPath
    source: str
    columns: list[str]
    labels: dict[PurePosixPath, Label]
    surely: bool = True

    def doubted(self, there: Collection[PurePosixPath]) -> bool:
        """Whether it is a table of something else, as it names none of the files that are there beside it."""
        return not self.surely and not any(path.parent == self.folder and path in there for path in self.labels)


def read_labels(content: bytes, folder: PurePosixPath, source: str) -> LabelTable:
    """Read a table; one without the columns of `COLUMNS` labels nothing (captions have such tables too).

    Raises:
        MetaloomError: it is no such file, a row lacks its path or class, or two rows disagree.
    """
    try:
        text = content.decode("utf-8-sig")
        rows = _lines(text) if source.endswith(".jsonl") else _rows(text)
    except (csv.Error, ValueError, RecursionError) as error:
        raise MetaloomError(f"{source} is no readable table ({error}): fix or remove it") from None
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    path, label, domain = (
        called(names, columns) for names in ((*PATH_COLUMNS, *OTHERS), LABEL_COLUMNS, DOMAIN_COLUMNS)
    )
    if path is None or label is None:
        return LabelTable(folder, source, columns, {})
    surely = {path, label} <= {*PATH_COLUMNS, *LABEL_COLUMNS}
    try:
        found = _labelled(rows, path, label, domain, folder, source)
    except MetaloomError:
        if surely:
            raise
        found = {}  # a table of something else
    return LabelTable(folder, source, columns, found, surely)


def _labelled(
    rows: list[dict[str, Any]], path: str, label: str, domain: str | None, folder: PurePosixPath, source: str
) -> dict[PurePosixPath, Label]:
    labels: dict[PurePosixPath, Label] = {}
    for number, row in enumerate(rows, start=1):
        file, said = _cell(row, path), Label(_cell(row, domain), _cell(row, label))
        if not file or not said.class_name:
            raise MetaloomError(f"{source}, row {number}, lacks its {label if file else path}: fill it in")
        if not all(map(whole, (file, *said))):
            raise MetaloomError(f"{source}, row {number}, has half a character, or a NUL, in a name: write it whole")
        place = folder / file.replace("\\", "/")
        if labels.setdefault(place, said) != said:
            raise MetaloomError(f"{source} has {file} in two classes, {labels[place].class_name} and {said.class_name}")
    return labels


def _rows(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=separator(text.partition("\n")[0])))


def _lines(text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        rows.append(row)
    return rows


def _cell(row: dict[str, Any], column: str | None) -> str:
    """A class may be a number in JSON; 0 is one too. "" where there is no such column."""
    value = row.get(column) if column is not None else None
    return "" if value is None else str(value).strip()
