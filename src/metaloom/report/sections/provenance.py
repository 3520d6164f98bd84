"""Where every figure comes from: versions of data, code and packages, settings, hashes, machine, commands.

No times of day: the same inputs on the same machine make the same page.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from metaloom.config import PARAMS
from metaloom.system.files import read_yaml
from metaloom.system.parallel import cores
from metaloom.system.provenance import DATA, LOCK, data_version, head

PACKAGES = (
    "metaloom",
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "pandas",
    "pillow",
    "dvc",
    "prefect",
)
OWN_STAGE = "report"  # its entry in dvc.lock is of the page before this one


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.lock: its outputs with their hashes."""

    name: str
    outputs: list[tuple[str, str]]


@dataclass(frozen=True)
class Origin:
    """Each field is empty where its source is absent: no git repository, no dvc.lock."""

    commit: str
    changed: bool
    data_version: str
    stages: list[Stage]
    settings: str
    settings_from: str
    packages: list[tuple[str, str]]
    machine: list[tuple[str, str]]
    commands: list[str]


def provenance(root: Path, methods: tuple[str, ...]) -> Origin:
    """What is known about how the artifacts below `root` came to be.

    Args:
        root: of the repository.
        methods: those that are trained now; dvc.lock remembers others too.

    Raises:
        MetaloomError: dvc.lock or data.dvc is no valid YAML.
    """
    lock = _yaml(root / LOCK).get("stages", {})
    stages = {name: stage for name, stage in lock.items() if _is_of_now(name, methods)}
    used = _used_settings(stages)
    commit, changed = head(root) or ("", False)
    plain = root / PARAMS
    settings = (
        yaml.safe_dump(used, sort_keys=False) if used else plain.read_text(encoding="utf-8") if plain.is_file() else ""
    )
    return Origin(
        commit=commit,
        changed=changed,
        data_version=_data_version(root, stages),
        stages=[Stage(name, [_output(out) for out in stage.get("outs", [])]) for name, stage in stages.items()],
        settings=settings,
        settings_from=LOCK if used else PARAMS,
        packages=[(name, found) for name in PACKAGES if (found := _version(name))],
        machine=machine(),
        commands=_commands(commit, changed),
    )


def _is_of_now(stage: str, methods: tuple[str, ...]) -> bool:
    name, _, method = stage.partition("@")
    return name != OWN_STAGE and (not method or method in methods)


def _yaml(path: Path) -> dict[str, Any]:
    return (read_yaml(path, f"`git checkout {path.name}` brings it back") or {}) if path.is_file() else {}


def _used_settings(stages: dict[str, Any]) -> dict[str, Any]:
    """The settings as the stages recorded them when they ran, which params.yaml may have left behind."""
    used: dict[str, Any] = {}
    for stage in stages.values():
        used |= stage.get("params", {}).get(PARAMS, {})
    return dict(sorted(used.items()))


def _data_version(root: Path, stages: dict[str, Any]) -> str:
    """The hash of data/ that `prepare` read, or that data.dvc names."""
    for dependency in stages.get("prepare", {}).get("deps", []):
        if dependency["path"] == DATA:
            return _hash(dependency)
    return data_version(root) or ""


def _hash(entry: dict[str, Any]) -> str:
    return str(entry.get(entry.get("hash", "md5"), ""))


def _output(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["path"], _hash(entry)


def machine() -> list[tuple[str, str]]:
    """Facts about the computer that made this page."""
    facts = [("system", f"{platform.system()} {platform.machine()}"), ("cores", str(cores()))]
    return [*facts, ("python", platform.python_version())]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commands(commit: str, changed: bool) -> list[str]:
    """How the page is made again; a commit that lacks changes does not make it."""
    checkout = [f"git checkout {commit[:12]}"] if commit and not changed else []
    return [*checkout, "make run", "metaloom report --open"]
