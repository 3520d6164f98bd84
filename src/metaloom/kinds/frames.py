"""Files as tables: CSV, TSV, JSON lines, and Parquet and Arrow with the names of classes that `datasets` gives them."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from metaloom.errors import MetaloomError
from metaloom.kinds.columns import check_names

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".arrow")
BOM = b"\xef\xbb\xbf"
PARQUET = b"PAR1"  # what a file begins with
ARROW_FILE, ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"  # `datasets` writes streams
COLUMNAR = (PARQUET, ARROW_FILE, ARROW_STREAM)
FEATURES = b"huggingface"  # where `datasets` describes columns in a file's own metadata


def read_table(content: bytes, rows: int | None = None) -> pd.DataFrame:
    """The table of a file, cells of CSV and TSV as they stand there.

    Args:
        content: the file.
        rows: the first so many alone.

    Raises:
        MetaloomError: it cannot be read; the message begins with a verb.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        if is_columnar(content):
            return read_columnar(content, rows)
        text = content.removeprefix(BOM).decode("utf-8")
        if text.lstrip().startswith("[{"):
            raise MetaloomError("is one list of JSON objects: write each object in a line of its own, without commas")
        if text.lstrip().startswith("{"):
            return pd.DataFrame(_objects(text, rows), dtype=object)
        mark = separator(text.partition("\n")[0])
        check_names(name.strip() for name in text.partition("\n")[0].split(mark))
        return pd.read_csv(io.StringIO(text), sep=mark, dtype=str, keep_default_na=False, index_col=False, nrows=rows)
    except UnicodeDecodeError as error:
        raise MetaloomError(f"is no UTF-8 (byte {error.start}): save it in this encoding") from None
    except (ValueError, pa.ArrowException, OSError) as error:  # pandas' own errors are ValueErrors
        said = str(error).splitlines()[0]
        raise MetaloomError(f"is no CSV, TSV, JSON lines or Parquet table ({said}): fix or remove it") from None


def separator(head: str) -> str:
    """What stands between the names of the columns: a tab, a comma, or a semicolon as spreadsheets of many countries
    write it."""
    return next((mark for mark in ("\t", ",", ";") if mark in head), ",")


def _objects(text: str, rows: int | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):  # a text may have other ends of lines in it
        if not line.strip():
            continue
        if len(found) == rows:
            break
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise MetaloomError(f"has no JSON object in line {number}: fix or remove it")
        found.append(value)
    return found


def is_columnar(content: bytes) -> bool:
    """Whether a file that begins so is Parquet or Arrow."""
    return content.startswith(COLUMNAR)


def read_columnar(content: bytes, rows: int | None = None) -> pd.DataFrame:
    """The table of a Parquet or Arrow file; numbers that stand for classes become their names.

    Args:
        content: the file.
        rows: the first so many alone.

    Raises:
        ValueError, OSError, pyarrow.ArrowException: it is damaged.
    """
    table = _table(content)
    if rows is not None:
        table = table.slice(0, rows)
    names = class_names(table.schema)
    frame = table.to_pandas()
    for column, known in names.items():
        frame[column] = [_named(number, known) for number in frame[column]]
    return frame


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Columns of numbers that stand for classes, and the classes' names; none where the file does not say so."""
    try:
        described: Any = json.loads((schema.metadata or {}).get(FEATURES, b"{}"))
        features = described["info"]["features"].items()
        labels = {name: each["names"] for name, each in features if each.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):  # another program's metadata
        return {}
    return {name: names for name, names in labels.items() if isinstance(names, list) and name in schema.names}


def _table(content: bytes) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if content.startswith(PARQUET):
        return pq.read_table(io.BytesIO(content))
    opened = pa.ipc.open_file if content.startswith(ARROW_FILE) else pa.ipc.open_stream
    with opened(pa.BufferReader(content)) as reader:
        return reader.read_all()


def _named(number: Any, names: list[str]) -> str | None:
    """None where there is no class: `datasets` writes -1."""
    known = isinstance(number, int | float) and number == number and 0 <= int(number) < len(names)
    return str(names[int(number)]) if known else None
