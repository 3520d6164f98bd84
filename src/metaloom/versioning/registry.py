"""Model versions and their stages: git tags that GTO writes and `dvc artifacts get` reads. No table of our own.

`handoff@v0.2.0` is a version of the artifact `handoff` of dvc.yaml, `handoff#prod#3` the third time that one became
`prod` (https://github.com/iterative/gto).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.handoff.shipped.verify import METADATA, verify
from metaloom.system.files import read_json
from metaloom.system.git import changed, differing
from metaloom.system.plural import some
from metaloom.system.provenance import LOCK, POINTER, head
from metaloom.versioning.paths import BUNDLE, Outputs
from metaloom.versioning.quality import handed, told_apart
from metaloom.versioning.revisions import at_revision

VERSION = r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]*)?"  # as GTO reads them
FEW = 4  # files in a message
STAGE = r"[0-9A-Za-z]([0-9A-Za-z_/-]*[0-9A-Za-z])?"
LONGEST = 100  # characters of either: a tag is the name of a file


@dataclass(frozen=True)
class ModelVersion:
    """One registered version.

    Args:
        version: such as v0.2.0.
        stages: it is in now.
        commit: that it was made at.
        date: when it was registered.
        metadata: of its bundle; None where that is in neither DVC's cache nor a remote.
    """

    version: str
    stages: list[str]
    commit: str
    date: datetime
    metadata: Any


def model_versions(root: Path) -> list[ModelVersion]:
    """All versions, the newest first."""
    with _gto_errors():
        if not _known(root):
            return []
        found = _gto().show(root, BUNDLE)
        stages = _stages(root)
    return [
        ModelVersion(
            each["version"],
            [stage for stage, versions in stages.items() if versions[-1] == each["version"]],
            each["commit_hexsha"],
            each["created_at"],
            _metadata(root, each["commit_hexsha"]),
        )
        for each in found
        if each["registrations"]
    ]


def promote(root: Path, version: str | None, stage: str, force: bool = False) -> tuple[str, str, str]:
    """Put a version into a stage; one that is not there yet, or none, makes the present commit a version.

    Args:
        root: the project's.
        version: such as v0.2.0.
        stage: such as prod.
        force: though it is worse than the one that is in the stage.

    Returns:
        The version, its commit, and how its accuracy compares with that of the one that was there, in words.

    Raises:
        MetaloomError: a name is none, its bundle cannot be had, does not verify or is worse, or what is present is not
            committed.
    """
    _check_names(version, stage)
    versions = model_versions(root)
    known = {each.version: each.commit for each in versions}
    commit = known.get(version or "")
    if commit is None:
        commit = _present_commit(root)
        same = [each for each, where in known.items() if where == commit]
        if same and version:
            raise MetaloomError(f"this commit is {same[0]} already: `metaloom promote {same[0]}`")
        version = same[0] if same else version
    _check_bundle(root, commit)
    present = next((each for each in versions if stage in each.stages), None)
    worse, told = False, ""
    if present is not None and present.commit != commit:
        read = next((each.metadata for each in versions if each.commit == commit), None)
        worse, told = told_apart(handed(present.metadata), handed(read or _metadata(root, commit)))
    if worse and not force:
        raise MetaloomError(f"{told}, which is {stage}: `--force` promotes it though")
    with _gto_errors():
        if version not in known:
            _gto().register(root, BUNDLE, commit, version=version)
            version = next(each["version"] for each in _gto().show(root, BUNDLE) if each["commit_hexsha"] == commit)
        return _assign(root, str(version), stage), commit, told


def _check_names(version: str | None, stage: str) -> None:
    """Before anything is done: GTO makes the version, and refuses the stage afterwards."""
    if version is not None and not (re.fullmatch(VERSION, version, re.ASCII) and len(version) <= LONGEST):
        raise MetaloomError(f"{version[:LONGEST]!r} is no version: give one such as v0.2.0, or leave it out")
    if not (re.fullmatch(STAGE, stage, re.ASCII) and len(stage) <= LONGEST) or "//" in stage:
        raise MetaloomError(
            f"{stage[:LONGEST]!r} is no name for a stage: write letters, numbers, '_', '-' or '/', such as candidate"
        )


def rollback(root: Path, stage: str) -> tuple[str, str]:
    """Put the version into a stage that was there before the present one.

    Returns:
        The version that leaves and the one that comes back.

    Raises:
        MetaloomError: there was none, or its bundle does not verify any more.
    """
    with _gto_errors():
        past = _past(_stages(root).get(stage, []))
    if len(past) < 2:
        has = f"has had nothing before {past[0]}" if past else "has had no version"
        raise MetaloomError(f"stage {stage} {has}: choose one of `metaloom models` for `metaloom promote`")
    before, present = past[-2:]
    commit = next(each.commit for each in model_versions(root) if each.version == before)
    _check_bundle(root, commit)
    with _gto_errors():
        return present, _assign(root, before, stage)


def _assign(root: Path, version: str, stage: str) -> str:
    if _stages(root).get(stage, [""])[-1] != version:
        _gto().assign(root, BUNDLE, stage, version=version, force=True)
    return version


def _past(versions: list[str]) -> list[str]:
    """The versions that led to the present one, the last: to come back to the one before undoes what was after it."""
    past: list[str] = []
    for version in versions:
        if past[-2:-1] == [version]:
            past.pop()
        else:
            past.append(version)
    return past


def _stages(root: Path) -> dict[str, list[str]]:
    """The versions that each stage has had, in the order of GTO's numbers: its times are whole seconds."""
    history = _gto().history(root, BUNDLE) if _known(root) else []
    events = [each for each in history if each["event"] == "assignment"]
    stages: dict[str, list[str]] = {}
    for each in sorted(events, key=lambda event: _number(event["ref"])):
        stages.setdefault(each["stage"], []).append(each["version"])
    return stages


def _number(ref: str) -> int:
    """Of an assignment; a tag without one, as GTO also writes them, is before all others of its stage."""
    number = ref.rpartition("#")[2]
    return int(number) if number.isdecimal() else 0


def _present_commit(root: Path) -> str:
    found = head(root)
    if found is None:
        raise MetaloomError("there is no commit to make a version of: `git init`, `metaloom run`, `git commit`")
    commit, code_differs = found
    if code_differs or changed(root, LOCK, POINTER):
        names = some(differing(root), FEW)
        raise MetaloomError(f"code, settings or results differ from the last commit ({names}): `git commit` them first")
    return commit


def _check_bundle(root: Path, commit: str) -> None:
    """The bundle of a commit verifies, here and now."""
    with tempfile.TemporaryDirectory() as folder, at_revision(root, commit) as revision:
        verdict = verify(revision.get(Outputs(root).bundle, Path(folder) / "bundle"))
    if verdict.problems:
        raise MetaloomError(f"the bundle of {commit[:8]} does not verify: {'; '.join(verdict.problems)}")


def _metadata(root: Path, commit: str) -> Any:
    with tempfile.TemporaryDirectory() as folder, at_revision(root, commit) as revision:
        try:
            return read_json(revision.get(f"{Outputs(root).bundle}/{METADATA}", Path(folder) / METADATA))
        except MetaloomError:
            return None


def _known(root: Path) -> bool:
    """Whether there is any tag of the artifact; GTO takes it for an error where there is none."""
    return any(each == BUNDLE for each in _gto().show(root))


def _gto() -> Any:
    """Its functions give values of many types in one dictionary."""
    import gto.api

    return gto.api


@contextmanager
def _gto_errors() -> Iterator[None]:
    """GTO's refusals and git's, in one line."""
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (GTOException, SCMError) as error:
        raise MetaloomError(re.sub(r"\s+", " ", str(error)).strip()) from None
