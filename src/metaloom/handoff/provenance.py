"""Where a bundle comes from: data version, commit, and the libraries that made it."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from metaloom.errors import MetaloomError

LIBRARIES = ("metaloom", "numpy", "onnx", "onnxruntime", "onnxscript", "torch")
OURS = ("src", "params.yaml", "dvc.yaml", "constraints.txt")  # what a model depends on besides data


def libraries() -> dict[str, str]:
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
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if head is None:
        return None
    return {"commit": head, "uncommitted_changes": bool(_git(root, "status", "--porcelain", "--", *OURS))}


def _git(root: str | Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def sha256(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
