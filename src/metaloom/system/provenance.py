"""Where a bundle comes from: data version, commit, and the libraries that made it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from metaloom.errors import MetaloomError
from metaloom.system.git import head

LIBRARIES = ("metaloom", "numpy", "onnx", "onnxruntime", "onnxscript", "torch")


def libraries() -> dict[str, str]:
    """Versions of the libraries that make a bundle, by name."""
    return {name: version(name) for name in LIBRARIES}


def data_version(root: str | Path = ".") -> str | None:
    """The md5 in data.dvc; None where there is no data.dvc."""
    path = Path(root) / "data.dvc"
    if not path.is_file():
        return None
    try:
        return str(yaml.safe_load(path.read_text())["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        raise MetaloomError(f"{path} is no DVC file of one output: `dvc add data` writes it anew") from None


def commit(root: str | Path = ".") -> dict[str, Any] | None:
    """The commit, and whether code or settings differ from it; None outside git or before a first commit."""
    found = head(root)
    return None if found is None else {"commit": found[0], "uncommitted_changes": found[1]}


def sha256(path: str | Path) -> str:
    """Of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
