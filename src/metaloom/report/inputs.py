"""Where the report reads from, and reading that names the stage which makes what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from metaloom.errors import MetaloomError
from metaloom.system.files import required


@dataclass(frozen=True)
class Inputs:
    """The folders of dvc.yaml's stages, the file of `plan`, the methods that were trained, the repository's root."""

    dataset: Path
    splits: Path
    plan: Path
    models: Path
    evaluation: Path
    bundle: Path
    metrics: Path
    methods: tuple[str, ...]
    root: Path = Path()


def again(made_by: str) -> str:
    """What to do about a file that is there but broken."""
    return f"`dvc repro -f {made_by}` makes it again"


def read_table(path: Path, made_by: str, columns: list[str]) -> pd.DataFrame:
    """Read a Parquet or CSV file.

    Raises:
        MetaloomError: it is absent, no such table, or lacks one of `columns`; the message names its stage.
    """
    required(path, made_by)
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's and the CSV reader's errors are subclasses of these
        raise MetaloomError(f"{path} cannot be read ({error}): {again(made_by)}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MetaloomError(f"{path} lacks the column(s) {', '.join(missing)}: {again(made_by)}")
    return table
