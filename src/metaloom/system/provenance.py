"""Where a bundle comes from: data version, commit, and the libraries that made it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from metaloom.errors import MetaloomError
from metaloom.system.git import changed, last_change, revision

# a project's own data, the version that they are of, and what DVC knows of each stage's last run
DATA, POINTER, LOCK = "data", "data.dvc", "dvc.lock"
# what artifacts depend on: code, settings, the data version, and what an earlier run has decided for the next
INPUTS = ("src", "params.yaml", "dvc.yaml", "constraints.txt", "code.yaml", POINTER, "budget.yaml", "splits.yaml")
LIBRARIES = ("metaloom", "numpy", "onnx", "onnxruntime", "onnxscript", "torch")


def libraries() -> dict[str, str]:
    """Versions of the libraries that make a bundle, by name."""
    return {name: version(name) for name in LIBRARIES}


def data_version(root: str | Path = ".") -> str | None:
    """The version of data/ that data.dvc names, DVC's md5 of the folder; None where there is no data.dvc.

    Raises:
        MetaloomError: data.dvc names none.
    """
    path = Path(root) / POINTER
    return version_in(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None


def version_in(pointer: str, where: str) -> str:
    """The data version that the text of a data.dvc names.

    Args:
        pointer: the text.
        where: it is from, for the message.

    Raises:
        MetaloomError: it names none.
    """
    try:
        return str(yaml.safe_load(pointer)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        raise MetaloomError(f"{where} is no DVC file of one output: `dvc add data` writes it again") from None


def head(root: str | Path = ".") -> tuple[str, bool] | None:
    """The commit, and whether code, settings or data differ from it; None outside git or before a first commit."""
    found = revision(root)
    return (found, changed(root, *INPUTS)) if found else None


def commit(root: str | Path = ".") -> dict[str, Any] | None:
    """The commit that code, settings and data are of, and whether they differ from it; None outside git or before a
    first commit.

    That is the last one that changed them: one that adds the results of a run to git is none, so that the same run
    after it gives the same bundle.
    """
    found = head(root)
    if found is None:
        return None
    return {"commit": last_change(root, *INPUTS) or found[0], "uncommitted_changes": found[1]}
