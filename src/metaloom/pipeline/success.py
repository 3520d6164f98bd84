"""For which version of data/ everything was last brought up to date."""

from __future__ import annotations

from pathlib import Path

from metaloom.pipeline.stages import is_current, stage_names
from metaloom.system.files import write_text
from metaloom.system.lock import STATE
from metaloom.system.provenance import data_version
from metaloom.versioning.data import held_version

SUCCESS = f"{STATE}/last-success"


def record_success(root: str | Path) -> None:
    """Every stage is up to date for the version that data.dvc names."""
    write_text(Path(root) / SUCCESS, f"{data_version(root)}\n")


def unchanged_since_success(root: str | Path) -> str | None:
    """The data version, if data/ still holds the one of the last success; None if there is work to do.

    Without a record (someone ran `dvc repro`), it is a success that every stage is current.
    """
    named = data_version(root)
    if named is None or held_version(root) != named:
        return None
    record = Path(root) / SUCCESS
    if record.is_file() and record.read_text(encoding="utf-8").strip() == named:
        return named
    return named if all(is_current(root, name) for name in stage_names(root)) else None
