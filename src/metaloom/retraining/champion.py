"""Training that starts from the model in the stage: the workspace has a copy of its models, which DVC tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metaloom.config import PARAMS, load_settings, read_params
from metaloom.config.editing import write_params
from metaloom.errors import MetaloomError
from metaloom.retraining.nights import Night
from metaloom.system.files import atomic_dir
from metaloom.system.terminal import say
from metaloom.versioning.paths import BUNDLE, Outputs
from metaloom.versioning.project import dvc_errors, open_project
from metaloom.versioning.registry import in_stage
from metaloom.versioning.revisions import at_revision

CHAMPION = "champion"  # the folder, which train.start names then
TRACKED = f"{CHAMPION}.dvc"
IGNORE = ".gitignore"  # to which DVC adds the folder
BY_ITSELF = "bank"  # a method that takes its own networks over, without train.start


def start_from_champion(root: Path, place: Path, night: Night) -> None:
    """Have training in a workspace start from the model in the stage, where `retrain.start` of its settings asks so.

    A retraining that was broken off starts as it began, though another model is in the stage by then. One of the past
    does not start from the model in the stage, which may have seen what came later.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining; gets the version that it starts from.

    Raises:
        BusyError: a remote does not answer.
        MetaloomError: the model is in neither DVC's cache nor a remote, or the settings have no place for its folder.
    """
    settings = load_settings(place / PARAMS)
    if settings.retrain.start is None:
        return
    if "start" not in read_params(place / PARAMS, {})["train"]:
        raise MetaloomError(
            f"{PARAMS}: retrain.start is {settings.retrain.start}, and the section train has no start, which is set "
            "then: write `start: null` into that section"
        )
    if night.start is None:
        night.start = "" if night.past else _in_use(root, settings.retrain.stage)
    own = None if settings.train.start == CHAMPION else settings.train.start
    found = _put(root, place, night.start, settings.methods) if night.start else []
    if found:
        say(f"training starts from {night.start}: {', '.join(found)}")
    elif night.start:
        missing = " or ".join(settings.methods)
        say(f"{night.start} has no model of {missing}: training starts from {own or 'random weights'}")
        night.start = ""
    night.save(root)
    wanted = CHAMPION if found else own
    if settings.train.start != wanted:
        write_params(place / PARAMS, {"train.start": wanted})


def _in_use(root: Path, stage: str) -> str:
    """The version in the stage; empty where there is none."""
    present = in_stage(root, stage) if Outputs(root).known("bundle") else None
    return present[0] if present else ""


def _put(root: Path, place: Path, version: str, methods: Sequence[str]) -> list[str]:
    """Copy a version's models into the folder, and have DVC track it; the methods that it has.

    The version is found by its tag: git may know something else by that name, such as a release of the code.
    """
    models = Outputs(place).models
    with at_revision(root, f"{BUNDLE}@{version}") as revision:
        there = [name for name in methods if name != BY_ITSELF and revision.has(f"{models}/{name}")]
        if not there:
            return []
        with atomic_dir(place / CHAMPION) as folder:
            for name in there:
                revision.get(f"{models}/{name}", folder / name)
    with open_project(place, lock=True) as repo, dvc_errors():
        repo.add(str(place / CHAMPION))
    return there
