"""Training that starts from the model in the stage: its weights are a folder of the workspace, which DVC tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metaloom.config import PARAMS, load_settings
from metaloom.config.editing import write_params
from metaloom.retraining.nights import Night
from metaloom.system.files import atomic_dir
from metaloom.system.terminal import say
from metaloom.versioning.paths import Outputs
from metaloom.versioning.project import dvc_errors, open_project
from metaloom.versioning.registry import in_stage
from metaloom.versioning.revisions import at_revision, resolved

WEIGHTS = "model.safetensors"  # of each method, as learners save them
CHAMPION = "champion"  # the folder, which train.start names then
TRACKED = f"{CHAMPION}.dvc"
IGNORE = ".gitignore"  # to which DVC adds the folder


def start_from_champion(root: Path, place: Path, night: Night) -> None:
    """Have training in a workspace start from the model in the stage, where `retrain.start` of its settings asks so.

    A retraining that was broken off starts from the same model, though another is in the stage by then. One of the
    past starts from random weights: the model in the stage may have seen what came later.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining; gets the version that it starts from.

    Raises:
        BusyError: a remote does not answer.
        MetaloomError: the model is in neither DVC's cache nor a remote.
    """
    settings = load_settings(place / PARAMS)
    if settings.retrain.start is None:
        return
    if not (night.start or night.past):
        present = in_stage(root, settings.retrain.stage) if Outputs(root).known("bundle") else None
        night.start = present[0] if present else ""
        night.save(root)
    found = _put(root, place, night.start, settings.methods) if night.start else []
    if found:
        say(f"training starts from {night.start}: {', '.join(found)}")
    elif night.start:
        say(f"{night.start} has no model of {' or '.join(settings.methods)}: training starts from random weights")
    wanted = CHAMPION if found else None
    if settings.train.start != wanted and (found or settings.train.start == CHAMPION):
        write_params(place / PARAMS, {"train.start": wanted})


def _put(root: Path, place: Path, version: str, methods: Sequence[str]) -> list[str]:
    """Copy a version's weights into the folder, and have DVC track it; the methods that it has."""
    models = Outputs(place).models
    paths = {name: f"{models}/{name}/{WEIGHTS}" for name in methods if name != "bank"}
    with at_revision(root, resolved(root, version)) as revision:
        there = {name: path for name, path in paths.items() if revision.has(path)}
        if not there:
            return []
        with atomic_dir(place / CHAMPION) as folder:
            for name, path in there.items():
                (folder / name).mkdir()
                revision.get(path, folder / name / WEIGHTS)
    with open_project(place, lock=True) as repo, dvc_errors():
        repo.add(str(place / CHAMPION))
    return list(there)
