"""Layouts that a user has given, where the one that is found out would be wrong: data/layouts.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from metaloom.data.archives import archive_stem
from metaloom.errors import MetaloomError
from metaloom.system.files import read_yaml, write_text

LAYOUTS = {
    "domains": "domain/class/file",
    "flat": "class/file",
    "splits": "train/class/file beside validation/ or test/",
    "table": "a metadata.csv, labels.csv or metadata.jsonl that names files with their classes",
}
FILE = "layouts.yaml"
WHOLE = "."  # its name for all of data/

Given = Mapping[str, str]  # layouts by the name of a folder or archive in data/


def read_given(data: Path) -> dict[str, str]:
    """The layouts in data/layouts.yaml; none where there is no such file.

    Raises:
        MetaloomError: it is no YAML of names and layouts.
    """
    path = data / FILE
    if not path.is_file():
        return {}
    given: Any = read_yaml(path) or {}
    if not isinstance(given, dict):
        raise MetaloomError(f"{path}: write one line for each folder or archive of {data}, like `mine: flat`")
    for name, layout in given.items():
        check_layout(layout, f"{path}: {name}")
    return {str(name): layout for name, layout in given.items()}


def check_layout(layout: Any, where: str) -> None:
    """Raises MetaloomError unless it is one of `LAYOUTS`."""
    if layout not in LAYOUTS:
        known = "; ".join(f"{name} ({shape})" for name, shape in LAYOUTS.items())
        raise MetaloomError(f"{where}: there is no layout {layout!r}; there are {known}")


def strangers(given: Given, entries: Iterable[str]) -> list[str]:
    """What to say of layouts that were given for nothing that is there."""
    known = {WHOLE, *entries}
    lost = [name for name in given if (archive_stem(name) or name) not in known]
    return [f"{FILE} names {', '.join(lost)}, which holds no examples here"] if lost else []


def write_given(data: Path, given: Mapping[str, str | None]) -> None:
    """Write data/layouts.yaml, without the names of None; where none is left there is no such file."""
    lines = {name: layout for name, layout in sorted(given.items()) if layout}
    if not lines:
        (data / FILE).unlink(missing_ok=True)
        return
    write_text(data / FILE, yaml.safe_dump(lines, allow_unicode=True))
