"""Labels that came later, from a table: which input of a log each row is of."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

from metaloom.errors import MetaloomError
from metaloom.judging.shadow.log import Log
from metaloom.system.escaping import cell
from metaloom.system.files import refuse_special
from metaloom.system.plural import several, some

NAMES, LABEL = ("example", "sha256"), "label"  # columns, as `metaloom predict --csv` names them
FEW = 6  # classes in a message


class Row(NamedTuple):
    """A row of the table.

    Args:
        line: where it stands.
        name: of the input, as the log has it, or its SHA-256.
        label: its class.
    """

    line: int
    name: str
    label: str


def new_labels(log: Log, table: Path) -> dict[str, str]:
    """The labels of a table that the log does not have yet, by the SHA-256 of the input, in the order of the table.

    Args:
        log: of the inputs.
        table: a CSV file with the columns example (or sha256) and label; a row without a label is passed over.

    Raises:
        MetaloomError: it cannot be read, or a row of it is of no input, of several, has no class of the bundles, or
            another one than the input has already. Nothing of the table is used then.
    """
    found, refused, files = dict[str, str](), list[str](), _by_file(log)
    for row in _rows(table):
        try:
            sha256 = _input(log, files, row)
            known = found.get(sha256, log.labels.get(sha256))
            _check_class(log, row, known)
        except MetaloomError as error:
            refused.append(f"{table}, line {row.line}: {error}")
            continue
        if known is None:
            found[sha256] = row.label
    if refused:
        more = f" (and {several(len(refused) - 1, 'more row')})" if len(refused) > 1 else ""
        raise MetaloomError(f"{refused[0]}{more}; none of its labels is used")
    return found


def _rows(table: Path) -> list[Row]:
    try:
        refuse_special(table)
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            name = next((each for each in NAMES if each in columns), None)
            if name is None or LABEL not in columns:
                raise MetaloomError(
                    f"{table} needs the columns {NAMES[0]} (or {NAMES[1]}) and {LABEL} in its first row"
                )
            return [Row(reader.line_num, row[name] or "", row[LABEL]) for row in reader if row[LABEL]]
    except FileNotFoundError:
        raise MetaloomError(f"{table}: there is no such file") from None
    except (OSError, ValueError, csv.Error) as error:
        raise MetaloomError(f"{table} is no table of labels: {error}") from None


def _input(log: Log, files: Mapping[str, set[str]], row: Row) -> str:
    if row.name in log.answers:
        return row.name
    plain = row.name[1:] if cell(row.name[1:]) == row.name else row.name
    known = log.named.get(row.name, set()) | log.named.get(plain, set()) or files.get(plain, set())
    if not known:
        raise MetaloomError(f"{row.name[:100]!r} is no input that {log.path} has")
    if len(known) > 1:
        raise MetaloomError(
            f"{row.name[:100]!r} is the name of {len(known)} inputs: give it with its folder, as the log has it, or "
            "the sha256"
        )
    return next(iter(known))


def _by_file(log: Log) -> dict[str, set[str]]:
    """The SHA-256 of the inputs by the name of their file, in whichever folder."""
    found: dict[str, set[str]] = {}
    for path, shas in log.named.items():
        found.setdefault(PurePath(path).name, set()).update(shas)
    return found


def _check_class(log: Log, row: Row, known: str | None) -> None:
    if row.label not in log.classes:
        raise MetaloomError(f"{row.label[:100]!r} is none of the classes ({some(log.classes, FEW)})")
    if known not in (None, row.label):
        raise MetaloomError(f"{row.name[:100]!r} has the label {known!r} already, and now {row.label!r}")
