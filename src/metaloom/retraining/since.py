"""How much is new since the model in the stage, by the measures of `metaloom compare`, and whether that is enough."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from metaloom.config import PARAMS, load_settings
from metaloom.config.retraining import WhenSettings
from metaloom.errors import MetaloomError
from metaloom.pipeline.child import reproduce_in_child
from metaloom.retraining.git import asked, file_at
from metaloom.retraining.nights import CHAMPION, DAY, FOLDER, Night, last_ended
from metaloom.retraining.taking import read_by_stages
from metaloom.system.files import load_yaml, read_json, write_json
from metaloom.system.limits import Watch
from metaloom.system.plural import several
from metaloom.system.provenance import INPUTS, POINTER
from metaloom.system.terminal import complain, say
from metaloom.versioning.code import CODE
from metaloom.versioning.data import version_dataset

SINCE = f"{FOLDER}/since.json"  # what was measured last: of which key and model, whether drift too, and the measures
OF_RUNS = (POINTER, "splits.yaml", "budget.yaml", CODE)  # of a project's inputs: what runs write
OF_THE_LOOP = ("judge", "limits", "retrain")  # of the settings: what no model is made by
CHANCE = 0.01  # a domain has moved if chance moves it as far less often


@dataclass(frozen=True)
class Since:
    """What is new.

    Args:
        examples, classes: how many.
        moved: how far the domain has that has moved farthest, in units of its spread; 0 where none has.
        domain: its name.
    """

    examples: int
    classes: int
    moved: float = 0.0
    domain: str = ""


def measure(place: Path, champion: str, drift: bool) -> Since:
    """Prepare the workspace's data, and set them beside the champion's.

    Args:
        place: the workspace.
        champion: the commit of the model in the stage.
        drift: whether domains are asked how far they have moved, which takes that model.

    Raises:
        HungError: `prepare` takes longer than the limits of the settings.
        MetaloomError: the data are refused, or the champion's are not to be had.
    """
    from metaloom.evaluation.drift import changes
    from metaloom.versioning.comparison import Comparison, Sides, drifted
    from metaloom.versioning.paths import Outputs
    from metaloom.versioning.revisions import WORKSPACE, at_revision

    outputs = Outputs(place)
    outputs.dataset  # noqa: B018 (refused where dvc.yaml does not say what examples are)
    version_dataset(place)
    limits = load_settings(place / PARAMS).limits
    watch = Watch(60 * limits.stage_minutes, 60 * limits.stall_minutes)
    reproduce_in_child(place, "prepare", say, complain, watch=watch)
    with (
        at_revision(place, champion) as before,
        at_revision(place, WORKSPACE) as now,
        tempfile.TemporaryDirectory() as folder,
    ):
        sides = Sides(before, now, outputs, Path(folder))
        found = Comparison(change=changes(sides.items("a"), sides.items("b")))
        if drift and found.change is not None and not found.change.none:
            drifted(found, sides)
    assert found.change is not None
    far = max((each for each in found.moved if each.p < CHANCE), key=lambda each: each.distance, default=None)
    added = int(found.change.examples["added"].sum())
    new = len(found.change.classes["added"])
    return Since(added, new, far.distance, far.domain) if far else Since(added, new)


def same_but_data(root: Path, place: Path, champion: str, base: str) -> bool:
    """Whether settings, code and the project's own files that stages read are those that the champion was made by."""
    inputs = [name for name in (*INPUTS, *read_by_stages(root, base)) if name not in (*OF_RUNS, PARAMS)]
    one, other = ((asked(root, "ls-tree", each, "--", *inputs), _settings(root, each)) for each in (champion, base))
    if CHAMPION in [_train(each).get("start") for _, each in (one, other)]:  # as a retraining has written it
        for _, each in (one, other):
            _train(each).pop("start", None)
    code = (place / CODE).read_text(encoding="utf-8").strip() if (place / CODE).is_file() else ""
    return one == other and code == file_at(root, champion, CODE)


def _settings(root: Path, commit: str) -> dict[str, Any]:
    try:
        found: Any = load_yaml(file_at(root, commit, PARAMS)) or {}
        return {name: value for name, value in found.items() if name not in OF_THE_LOOP}
    except (yaml.YAMLError, AttributeError):  # refused by the run itself
        return {}


def _train(settings: dict[str, Any]) -> dict[str, Any]:
    found = settings.get("train")
    return found if isinstance(found, dict) else {}


def waits(root: Path, when: WhenSettings, found: Since, stage: str, version: str, now: float) -> str:
    """Why what is new is not enough; empty where it is.

    Args:
        root: the project's.
        when: what is enough.
        found: what is new.
        stage: that is asked about.
        version: that is in it.
        now: Unix time.
    """
    if (when.examples and found.examples >= when.examples) or (when.classes and found.classes >= when.classes):
        return ""
    moved, cooling = bool(when.drift) and found.moved >= when.drift, now - last_ended(root) < when.drift_days * DAY
    if moved and not cooling:
        return ""
    asks = [
        *([several(when.examples, "example")] if when.examples else []),
        *([several(when.classes, "class", "classes")] if when.classes else []),
        *([f"a domain that has moved by {when.drift:g} of its spread"] if when.drift else []),
    ]
    new = f"{several(found.examples, 'new example')} and {several(found.classes, 'new class', 'new classes')}"
    told = f"{new} since {version}, which is {stage}: retrain.when waits for {' or '.join(asks)}"
    if moved:
        told += (
            f"; {found.domain} has moved by {found.moved:.2f}, and for {when.drift_days:g} days after the last "
            "retraining that starts none"
        )
    return told


def remembered(root: Path, key: str, champion: str, drift: bool) -> Since | None:
    """What was measured of the same data and the same champion; None where drift is asked and was not measured."""
    path = root / SINCE
    try:
        found: Any = read_json(path) if path.is_file() else {}
        same = isinstance(found, dict) and (found.get("key"), found.get("champion")) == (key, champion)
        if same and (found.get("drift") or not drift):
            return Since(**found["since"])
    except (MetaloomError, TypeError, KeyError):  # measured again
        return None
    return None


def remember(root: Path, key: str, champion: str, found: Since, drift: bool) -> None:
    """Keep it for the nights that bring nothing else."""
    write_json(root / SINCE, {"key": key, "champion": champion, "drift": drift, "since": asdict(found)})


def measured(root: Path, place: Path, night: Night, champion: tuple[str, str], drift: bool) -> Since | None:
    """What is new for a night; None where not the data alone are.

    Args:
        root: the project's.
        place: the night's workspace.
        night: what it starts from.
        champion: version and commit of the model in the stage.
        drift: whether domains are asked how far they have moved.

    Raises:
        MetaloomError: the data are refused, or the champion's are not to be had.
    """
    _, commit = champion
    if not same_but_data(root, place, commit, night.base):
        return None
    found = remembered(root, night.key, commit, drift)
    if found is None:
        found = measure(place, commit, drift)
        remember(root, night.key, commit, found, drift)
    return found
