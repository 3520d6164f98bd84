"""Answers to many files as one table, CSV or Parquet: whole or not at all, and after a kill it goes on from there.

Parts of some thousand answers lie in a folder beside the table until all of them are there. Each part has a list of the
files that it answers, with their size and time of change: where one of them is another now, all is asked again.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloom.errors import MetaloomError
from metaloom.system.escaping import cell, shown
from metaloom.system.files import atomic_file, stamp, write_text

if TYPE_CHECKING:
    from metaloom.handoff.bundle.predict import Prediction

ENDINGS = (".csv", ".parquet")
PART = 4096  # answers
ABOUT = "about.json"
Row = Sequence[Any]


def columns_of(labels: Sequence[str]) -> list[str]:
    """Names of the columns: the answer, and the probability of each class."""
    return ["example", "label", "probability", "novelty", *(shown(f"p({label})") for label in sorted(labels))]


def row_of(prediction: Prediction) -> list[Any]:
    """Its values, in the order of `columns_of`."""
    names = (shown(prediction.example), shown(prediction.label))
    own = [prediction.probabilities[label] for label in sorted(prediction.probabilities)]
    return [*names, prediction.probability, prediction.novelty, *own]


def csv_row(prediction: Prediction) -> list[Any]:
    """The same, safe for a spreadsheet."""
    example, label, *numbers = row_of(prediction)
    return [cell(example), cell(label), *numbers]


def checked(path: Path) -> Path:
    """The path of a table that can be written.

    Raises:
        MetaloomError: its ending is another, it exists already, or its folder does not.
    """
    if path.suffix.lower() not in ENDINGS:
        raise MetaloomError(f"--out {path}: give a file that ends in {' or '.join(ENDINGS)}")
    if path.exists():
        raise MetaloomError(f"--out {path} exists: choose another, or remove it first")
    if not path.parent.is_dir():
        raise MetaloomError(f"--out {path}: there is no folder {path.parent}")
    return path


@dataclass
class AnswersFile:
    """A table of answers while it is made.

    Args:
        path: of the table.
        columns: their names.
        about: what has to be the same so that answers of before still hold: bundle, task, arguments.
    """

    path: Path
    columns: list[str]
    about: dict[str, Any]
    known: set[str] = field(default_factory=set, init=False)  # files that were answered before
    _rows: list[Row] = field(default_factory=list, init=False)
    _files: dict[str, Any] = field(default_factory=dict, init=False)
    _parts: list[Path] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.folder = self.path.parent / f".{self.path.name}.parts"
        found = self._before()
        if found is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            write_text(self.folder / ABOUT, json.dumps(self.about))  # in ASCII, as names may be no UTF-8
        else:
            self._parts, self.known = found

    def _before(self) -> tuple[list[Path], set[str]] | None:
        """Parts of a call that was ended, and their files; None where there is none, or something has changed."""
        known: dict[str, Any] = {}
        with suppress(OSError, ValueError, TypeError):
            if json.loads((self.folder / ABOUT).read_bytes()) != json.loads(json.dumps(self.about)):
                return None
            parts = sorted(self.folder.glob(f"*{self.path.suffix}"))
            for part in parts:
                known |= json.loads(part.with_suffix(".json").read_bytes())
            return (parts, set(known)) if all(_stamp(name) == was for name, was in known.items()) else None
        return None

    def left(self, files: Iterable[str | Path], on_gone: Callable[[int], None]) -> Iterator[str | Path]:
        """Those that are still to be answered.

        Args:
            files: all of them.
            on_gone: gets the number of those answered before that are not asked about any more.
        """
        asked = set[str]()
        for each in files:
            if str(each) in self.known:
                asked.add(str(each))
            else:
                yield each
        if gone := len(self.known - asked):
            on_gone(gone)

    def put(self, argument: str, rows: Iterable[Row]) -> None:
        """The answers to one file."""
        self._rows += rows
        self._files[argument] = _stamp(argument)
        if len(self._rows) >= PART:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        part = self.folder / f"{len(self._parts):06}{self.path.suffix}"
        write_text(
            part.with_suffix(".json"), json.dumps(self._files)
        )  # first: a part without its list would be asked again
        with atomic_file(part) as temporary:
            _write(temporary, self.path.suffix, self.columns, [self._rows])
        self._parts.append(part)
        self._rows, self._files = [], {}

    def finish(self) -> int:
        """Put the parts together; how many answers there are."""
        self._flush()
        total = 0

        def counted() -> Iterator[list[Row]]:
            nonlocal total
            for part in self._parts:
                rows = _read(part)
                total += len(rows)
                yield rows

        with atomic_file(self.path) as temporary:
            _write(temporary, self.path.suffix, self.columns, counted())
        shutil.rmtree(self.folder)
        return total

    def forget(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _stamp(argument: str) -> list[int] | None:
    try:
        return list(stamp(argument))
    except (OSError, ValueError):  # a text itself
        return None


def _write(path: Path, ending: str, columns: list[str], parts: Iterable[Sequence[Row]]) -> None:
    if ending.lower() == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(columns)
            for rows in parts:
                table.writerows([cell(row[0]), cell(row[1]), *row[2:]] for row in rows)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = {"example", "label"}
    places = range(len(columns))
    schema = pa.schema(
        [pa.field(name, pa.string() if at < len(words) else pa.float32()) for at, name in enumerate(columns)]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for rows in parts:
            arrays = [pa.array([row[at] for row in rows], schema.field(at).type) for at in places]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _read(part: Path) -> list[Row]:
    if part.suffix.lower() == ".csv":
        with part.open(encoding="utf-8", newline="") as file:
            rows: list[Row] = [*csv.reader(file)]
            return rows[1:]
    import pyarrow.parquet as pq

    columns = [column.to_pylist() for column in pq.read_table(part).columns]
    return list(map(list, zip(*columns, strict=True)))
