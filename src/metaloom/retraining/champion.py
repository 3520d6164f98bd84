"""Training that starts from the model in the stage: its weights are a folder of the workspace, which DVC tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from metaloom.config import PARAMS, load_settings
from metaloom.config.auto import filled, value_at, where_plenty
from metaloom.config.editing import write_params
from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import due_stages, stages_for
from metaloom.retraining.git import asked, file_at
from metaloom.retraining.nights import CHAMPION, TRACKED, Night
from metaloom.retraining.taking import SPLITS
from metaloom.retraining.transfers import text_of
from metaloom.system.files import atomic_dir, load_yaml
from metaloom.system.git import revision as known
from metaloom.system.terminal import say
from metaloom.versioning.paths import BUNDLE, Outputs
from metaloom.versioning.project import dvc_errors, open_project
from metaloom.versioning.registry import in_stage
from metaloom.versioning.revisions import at_revision

WEIGHTS = "model.safetensors"  # of each method, as learners save them
TRAIN = "train"  # the stage
NETWORK = ("network.name", "network.width", "encoder.file")  # settings that give the weights their shapes


def start_from_champion(root: Path, place: Path, night: Night, force: bool = False) -> None:
    """Have training in a workspace start from the model in the stage, where `retrain.start` of its settings asks so.

    A retraining that was broken off starts as it began, though another model is in the stage by then. One of the past
    does not start from the model in the stage, which may have seen what came later; nor does one whose test classes
    that model may have been trained on. Where nothing is due that training depends on, the models that there are stay,
    with what they started from.

    Args:
        root: the project's.
        place: the workspace.
        night: the retraining; gets the version that it starts from.
        force: whether everything is due.

    Raises:
        BusyError: a remote does not answer.
        MetaloomError: the model is in neither DVC's cache nor a remote, or the project has something else of the name
            that its weights would get.
    """
    settings = load_settings(place / PARAMS)
    if settings.retrain.start is None or not (force or _trains(place)):
        return
    version = _version(root, night, settings.retrain.stage)
    own = None if settings.train.start == CHAMPION else settings.train.start
    why = f"has no model of {' or '.join(settings.methods)}"
    found: list[str] = []
    if version and _knows_tests(root, place, _tag(version)):
        why = "was trained with another split, and may know what is tested"
    elif version and (other := _other_network(root, place, _tag(version))):
        why = f"has another {other}"
    elif version:
        found = _put(root, place, _tag(version), settings.methods)
    if found:
        say(f"training starts from {version}: {', '.join(found)}")
    elif version:
        say(f"{version} {why}: training starts from {own or 'random weights'}")
    night.start = version if found else ""
    night.save(root)
    wanted = CHAMPION if found else own
    if settings.train.start != wanted:
        write_params(place / PARAMS, {"train.start": wanted}, new=True)


def _trains(place: Path) -> bool:
    """Whether anything is due that training depends on, or training itself."""
    return not set(due_stages(place, beside=False)).isdisjoint(stages_for(place, TRAIN))


def _version(root: Path, night: Night, stage: str) -> str:
    """The version that a retraining starts from; empty: from random weights."""
    begun = night.start
    if begun is not None and (not begun or known(root, _tag(begun))):
        return begun
    if night.past or not Outputs(root).known("bundle"):
        return ""
    present = in_stage(root, stage)
    return present[0] if present else ""


def _tag(version: str) -> str:
    """Git may know something else by the version's name, such as a release of the code."""
    return f"{BUNDLE}@{version}"


def _knows_tests(root: Path, place: Path, version: str) -> bool:
    """Whether a version may have been trained or selected on classes that its successor is tested on: the splits are
    drawn again, or some were moved by hand."""
    (then, before), (now, after) = (
        (_mapping(file_at(root, version, name)) for name in (PARAMS, SPLITS)),
        (_mapping(text_of(place / name)) for name in (PARAMS, SPLITS)),
    )
    if any(then.get(name) != now.get(name) for name in ("seed", "split")) or (now.get("split") or {}).get("reassign"):
        return True
    seen = {name for split in ("train", "validation") for name in before.get(split) or ()}
    return not seen.isdisjoint(after.get("test") or ())


def _other_network(root: Path, place: Path, version: str) -> str:
    """The setting by which the network of a version is another one, which hardly any of its weights fit; "" where none
    is."""
    raw = (_mapping(file_at(root, version, PARAMS)), _mapping(text_of(place / PARAMS)))
    then, now = (filled(each, where_plenty(each)) for each in raw)
    for key in NETWORK:
        before, after = value_at(then, key), value_at(now, key)
        if before != after:
            return f"{key} ({before or 'none'}, now {after or 'none'})"
    return ""


def _mapping(text: str) -> dict[str, Any]:
    """A file of YAML; nothing where it is none, which the run itself refuses."""
    try:
        found = load_yaml(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _put(root: Path, place: Path, version: str, methods: Sequence[str]) -> list[str]:
    """Copy the weights of a version, by its tag, into the folder, and have DVC track it; the methods that it has."""
    models = Outputs(place).models
    paths = {name: f"{models}/{name}/{WEIGHTS}" for name in methods if name != "bank"}
    with at_revision(root, version) as revision:
        there = {name: path for name, path in paths.items() if revision.has(path)}
        if not there:
            return []
        _refuse_taken(place)
        with atomic_dir(place / CHAMPION) as folder:
            for name, path in there.items():
                (folder / name).mkdir()
                revision.get(path, folder / name / WEIGHTS)
    with open_project(place, lock=True) as repo, dvc_errors():
        repo.add(str(place / CHAMPION))
    return list(there)


def _refuse_taken(place: Path) -> None:
    """Raises MetaloomError where the project has something else of the folder's name, or of that of DVC's file."""
    folder, pointer = place / CHAMPION, place / TRACKED
    with open_project(place) as repo:
        stages = [each for each in repo.index.stages if Path(each.path) != pointer]
        outs = [Path(out.fs_path) for each in stages for out in each.outs]
    if asked(place, "ls-files", "--", CHAMPION):
        whose = f"git has {CHAMPION}"
    elif any(folder.is_relative_to(out) or out.is_relative_to(folder) for out in outs):
        whose = f"{CHAMPION} is a stage's output"
    elif pointer.is_file() and _path_in(pointer) != CHAMPION:
        whose = f"{TRACKED} is of {_path_in(pointer)}"
    elif asked(place, "check-ignore", "--no-index", "--", TRACKED):
        whose = f"git ignores {TRACKED}"
    else:
        return
    raise MetaloomError(
        f"retrain.start puts weights into {CHAMPION}/, which {TRACKED} tracks, and {whose}: change that, or set "
        "retrain.start: null"
    )


def _path_in(pointer: Path) -> str:
    """What a file of DVC tracks."""
    outs = (load_yaml(pointer.read_bytes()) or {}).get("outs") or [{}]
    return str(outs[0].get("path", ""))
