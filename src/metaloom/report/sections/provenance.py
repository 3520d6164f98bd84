"""Where every figure comes from: versions of data, code and packages, settings, hashes, machine, commands.

No times of day: the same inputs on the same machine make the same page.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from metaloom.config import PARAMS, read_params, run_command, value_at
from metaloom.system.files import read_yaml
from metaloom.system.git import differing, revision
from metaloom.system.parallel import cores
from metaloom.system.plural import some
from metaloom.system.provenance import DATA, INPUTS, LOCK, POINTER, data_version

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
MISSING = object()
SHOWN = 4  # files in a sentence
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
    uncommitted: bool  # what the page depends on differs from the commit
    data_version: str
    stages: list[Stage]
    settings: str
    settings_from: str
    packages: list[tuple[str, str]]
    machine: list[tuple[str, str]]
    given: list[str]  # settings that params.yaml has otherwise, by dotted keys
    commands: list[str]
    only_here: str  # why no commit makes the page again; empty where one does


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
    commit, version = revision(root), _data_version(root, stages)
    uncommitted, given = differing(root, *INPUTS) if commit else [], _given(used, root)
    only_here = _only_here(commit, uncommitted, version, data_version(root) or "")
    plain = root / PARAMS
    settings = (
        yaml.safe_dump(used, sort_keys=False) if used else plain.read_text(encoding="utf-8") if plain.is_file() else ""
    )
    return Origin(
        commit=commit,
        uncommitted=bool(uncommitted),
        data_version=version,
        stages=[Stage(name, [_output(out) for out in stage.get("outs", [])]) for name, stage in stages.items()],
        settings=settings,
        settings_from=LOCK if used else PARAMS,
        packages=[(name, found) for name in PACKAGES if (found := _version(name))],
        machine=machine(),
        given=list(given),
        commands=[
            *([] if only_here else [f"git checkout {commit[:12]}"]),
            run_command(given),
            "metaloom report --open",
        ],
        only_here=only_here,
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


def _given(used: dict[str, Any], root: Path) -> dict[str, Any]:
    """Settings that the stages ran with and that params.yaml has otherwise, by dotted keys: those of `--set`."""
    return dict(_other(used, read_params(root / PARAMS, {}), "")) if used and (root / PARAMS).is_file() else {}


def _only_here(commit: str, uncommitted: list[str], version: str, named: str) -> str:
    """Why no commit makes the page again, in a sentence: the versions of data/ are the page's and that of data.dvc."""
    if not commit:
        return "Nothing is committed yet: only this folder makes the page again, while it is as it was."
    if uncommitted:
        names, were = some(uncommitted, SHOWN), "was" if len(uncommitted) == 1 else "were"
        return f"{names} {were} not committed when the page was made: only that folder, as it was, makes it again."
    if version and version != named:
        return f"{POINTER} names another version of {DATA}/ than the page is of: `metaloom run` brings it up to date."
    return ""


def _other(used: dict[str, Any], plain: dict[str, Any], within: str) -> Iterator[tuple[str, Any]]:
    for name, value in used.items():
        key, there = f"{within}{name}", value_at(plain, name, MISSING)
        if isinstance(value, dict) and isinstance(there, dict):
            yield from _other(value, there, f"{key}.")
        elif there is not MISSING and value != there:
            yield key, value


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
