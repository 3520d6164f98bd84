"""Where the report reads from, and reading that names the stage which makes what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from metaloom.errors import MetaloomError
from metaloom.kinds import Shown
from metaloom.system.files import makes_again, required


@dataclass(frozen=True)
class Inputs:
    """The folders of dvc.yaml's stages, the file of `plan`, the methods that were trained, the repository's root."""

    dataset: Path
    splits: Path
    plan: Path
    models: Path
    evaluation: Path
    bundle: Path
    methods: tuple[str, ...]
    root: Path = Path()


def read_table(path: Path, made_by: str, columns: list[str]) -> pd.DataFrame:
    """Read a Parquet or CSV file.

    Raises:
        MetaloomError: it is absent, no such table, or lacks one of `columns`; the message names its stage.
    """
    required(path, made_by)
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's and the CSV reader's errors are subclasses of these
        raise MetaloomError(f"{path} cannot be read ({error}): {makes_again(made_by)}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MetaloomError(f"{path} lacks {', '.join(missing)} among its columns: {makes_again(made_by)}")
    return table


def fitting_rows(path: Path, rows: Iterable[int], thumbnails: Shown) -> None:
    """Refuse rows that the data set does not have.

    Args:
        path: where they stand, for the message.
        rows: of the data set.
        thumbnails: of all of its rows.

    Raises:
        MetaloomError: one of them is beyond the last.
    """
    highest = max(rows, default=-1)
    if highest >= len(thumbnails):
        raise MetaloomError(
            f"{path} shows row {highest}, but the data set has {len(thumbnails):,}: `dvc repro` makes them fit"
        )
