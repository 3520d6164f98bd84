"""Model versions and their stages: git tags that GTO writes and `dvc artifacts get` reads. No table of our own.

`handoff@v0.2.0` is a version of the artifact `handoff` of dvc.yaml, `handoff#prod#3` the third time that one became
`prod` (https://github.com/iterative/gto).
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from metaloom.errors import MetaloomError
from metaloom.handoff.shipped.verify import METADATA, verify
from metaloom.system.files import read_json
from metaloom.system.git import changed, differing, tags, tags_as_they_are
from metaloom.system.lock import STATE, project_lock
from metaloom.system.plural import some
from metaloom.system.provenance import LOCK, POINTER, head
from metaloom.versioning.paths import BUNDLE, Outputs
from metaloom.versioning.quality import handed, told_apart
from metaloom.versioning.revisions import at_revision

VERSION = r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]*)?"  # as GTO reads them
NUMBERS = re.compile(r"v\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)
FEW = 4  # files in a message
WAIT = 60  # seconds for another command that changes a stage
STAGE = r"[0-9A-Za-z]([0-9A-Za-z_/-]*[0-9A-Za-z])?"
LONGEST = 100  # characters of either: a tag is the name of a file


class NothingBeforeError(MetaloomError):
    """A stage has had no other version, so there is none to come back."""


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
        found = _shown(root)
        stages = _stages(root)
    return [
        ModelVersion(
            each["version"],
            [stage for stage, versions in stages.items() if versions[-1] == each["version"]],
            each["commit_hexsha"],
            each["created_at"],
            metadata_of(root, each["commit_hexsha"]),
        )
        for each in found
        if each["registrations"]
    ]


@dataclass(frozen=True)
class Judged:
    """What somebody says who has compared a version with the one in its place.

    Args:
        refused: whether it is not to take that place.
        told: why, or why it may, in a sentence.
        message: that the tag gets.
    """

    refused: bool
    told: str
    message: str


def promote(
    root: Path,
    version: str | None,
    stage: str,
    force: bool = False,
    judge: Callable[[str, str], Judged | None] | None = None,
) -> tuple[str, str, str]:
    """Put a version into a stage; one that is not there yet, or none, makes the present commit a version.

    Args:
        root: the project's.
        version: such as v0.2.0.
        stage: such as prod.
        force: though it is worse than the one that is in the stage; nobody is asked then.
        judge: compares the version in the stage with a commit; None, or where it gives None: their bundles' own figures
            are compared.

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
    worse, told, message = False, "", None
    if present is not None and present.commit != commit:
        judged = judge(present.version, commit) if judge and not force else None
        if judged is not None:
            worse, told, message = judged.refused, judged.told, judged.message
        else:
            read = next((each.metadata for each in versions if each.commit == commit), None)
            worse, told = told_apart(handed(present.metadata), handed(read or metadata_of(root, commit)))
    if present is not None and worse and not force:
        raise MetaloomError(f"{told}; {present.version} stays {stage}: `--force` promotes it though")
    with _gto_errors():
        if version not in known:
            free = version or _free_version(root)
            _gto().register(root, BUNDLE, commit, version=free, message=message)
            version = next(each["version"] for each in _shown(root) if each["commit_hexsha"] == commit)
    put_into(root, str(version), stage, message)
    return str(version), commit, told


def in_stage(root: Path, stage: str) -> tuple[str, str] | None:
    """The version that is in a stage, and its commit; None where there is none."""
    with _gto_errors():
        versions = _stages(root).get(stage)
        if not versions:
            return None
        commits = {each["version"]: each["commit_hexsha"] for each in _shown(root)}
    if versions[-1] not in commits:
        raise MetaloomError(
            f"{versions[-1]} is {stage}, and is no version any more (`gto deregister`?): `metaloom promote` puts "
            "another one there"
        )
    return versions[-1], commits[versions[-1]]


def register(root: Path, commit: str, message: str, author: tuple[str, str]) -> str:
    """Make a commit a version, unless it is one; its bundle has to verify.

    Args:
        root: the project's.
        commit: its hash.
        message: of the tag.
        author: name and address.

    Returns:
        The version.

    Raises:
        MetaloomError: its bundle cannot be had or does not verify.
    """
    with _gto_errors():
        if (version := _version_of(root, commit)) is not None:
            return version
    _check_bundle(root, commit)
    with _gto_errors():
        free = _free_version(root)
        _gto().register(root, BUNDLE, commit, version=free, message=message, author=author[0], author_email=author[1])
        return str(_version_of(root, commit))


def put_into(
    root: Path, version: str, stage: str, message: str | None = None, author: tuple[str, str] | None = None
) -> None:
    """Put a version into a stage, unless it is there; `promote` without its questions.

    Args:
        root: the project's.
        version: such as v0.2.0.
        stage: such as prod.
        message: of the tag; None: GTO's.
        author: name and address; None: git's.
    """
    with _one_at_a_time(root), _gto_errors():
        if _stages(root).get(stage, [""])[-1] != version:
            told = message or f"Assigning stage {stage} to artifact {BUNDLE} version {version}"
            _tag(root, "assign", version, stage, told, author)


def take_out(root: Path, version: str, stage: str, message: str, author: tuple[str, str] | None = None) -> str:
    """Have a version leave a stage; one that came before it, and has not left, is in the stage then, as GTO has it.

    Args:
        root: the project's.
        version: such as v0.2.0.
        stage: such as candidate.
        message: of the tag.
        author: name and address; None: git's.

    Returns:
        The ref of the tag that says so; empty where the version is not in the stage.
    """
    with _one_at_a_time(root), _gto_errors():
        if version not in _stages(root).get(stage, []):
            return ""
        return f"refs/tags/{_tag(root, 'unassign', version, stage, message, author)}"


def _tag(
    root: Path,
    what: Literal["assign", "unassign"],
    version: str,
    stage: str,
    message: str,
    author: tuple[str, str] | None,
) -> str:
    """A tag that is the latest of its stage: `dvc artifacts get` takes that, by times in whole seconds.

    GTO's has the time of this clock, which may be behind that of who made the last one, or in the same second.
    """
    from dulwich.porcelain import tag_create
    from gto.constants import Action
    from gto.registry import GitRegistry
    from gto.tag import find, name_tag

    name, email = author or (None, None)
    with GitRegistry.from_url(root) as registry:
        scm: Any = registry.scm
        tag = name_tag(Action[what.upper()], BUNDLE, stage=stage, scm=scm)
        last = max((tag.tag_time for tag in find(name=BUNDLE, stage=stage, scm=scm)), default=0)
        if last >= int(time.time()):
            commit, who = registry.find_commit(BUNDLE, version), f"{name} <{email}>" if author else None
            tag_create(scm.dulwich.repo, tag, who, message, annotated=True, objectish=commit, tag_time=last + 1)
            return tag
    done = getattr(_gto(), what)
    done(root, BUNDLE, version=version, stage=stage, message=message, force=True, author=name, author_email=email)
    return tag


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Whoever looks which version is in a stage and puts another there is not overtaken meanwhile."""
    folder = root / STATE / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    with project_lock(folder, WAIT):
        yield


def metadata_of(root: Path, commit: str) -> Any:
    """The metadata of the bundle of a commit; None where it is in neither DVC's cache nor a remote."""
    with tempfile.TemporaryDirectory() as folder, at_revision(root, commit) as revision:
        try:
            return read_json(revision.get(f"{Outputs(root).bundle}/{METADATA}", Path(folder) / METADATA))
        except MetaloomError:
            return None


def _version_of(root: Path, commit: str) -> str | None:
    found = (each for each in _shown(root) if each["commit_hexsha"] == commit and each["registrations"])
    return next((each["version"] for each in found), None)


def _free_version(root: Path) -> str | None:
    """The next version, where GTO would take one whose tag is there: of a version that is deregistered, or made by
    hand. None: GTO's is free."""
    known = {each["version"] for each in _shown(root) if each["registrations"]}
    names = {name.removeprefix(f"{BUNDLE}@") for name in tags(root) if name.startswith(f"{BUNDLE}@")}
    numbers = [tuple(map(int, found[0][1:].split("."))) for each in names if (found := NUMBERS.match(each))]
    if names <= known or not numbers:
        return None
    *front, last = max(numbers)
    return "v" + ".".join(map(str, (*front, last + 1)))


def _check_names(version: str | None, stage: str) -> None:
    """Before anything is done: GTO makes the version, and refuses the stage afterwards."""
    if version is not None and not (re.fullmatch(VERSION, version, re.ASCII) and len(version) <= LONGEST):
        raise MetaloomError(f"{version[:LONGEST]!r} is no version: give one such as v0.2.0, or leave it out")
    if not (re.fullmatch(STAGE, stage, re.ASCII) and len(stage) <= LONGEST) or "//" in stage:
        raise MetaloomError(
            f"{stage[:LONGEST]!r} is no name for a stage: write letters, numbers, '_', '-' or '/', such as candidate"
        )


def version_in(root: Path, stage: str) -> str:
    """The version that is in a stage.

    Raises:
        MetaloomError: none is.
    """
    found = in_stage(root, stage)
    if found is not None:
        return found[0]
    with _gto_errors():
        known = _shown(root)
    if not known:
        raise MetaloomError("no version yet: `metaloom promote` makes the present commit the first one")
    raise MetaloomError(f"no version is {stage}: `metaloom promote` puts one there, or name the champion")


def rollback(root: Path, stage: str, leaving: str | None = None, message: str | None = None) -> tuple[str, str]:
    """Put the version into a stage that was there before the present one.

    Args:
        root: the project's.
        stage: such as prod.
        leaving: the version that is to leave; None: whichever is there.
        message: of the tag; None: GTO's.

    Returns:
        The version that leaves and the one that comes back.

    Raises:
        NothingBeforeError: there was none.
        MetaloomError: its bundle does not verify any more, or `leaving` is not there any more.
    """
    with _one_at_a_time(root):
        return _rolled_back(root, stage, leaving, message)


def _rolled_back(root: Path, stage: str, leaving: str | None, message: str | None) -> tuple[str, str]:
    with _gto_errors():
        past = _past(_stages(root).get(stage, []))
    if leaving not in (None, *past[-1:]):
        raise MetaloomError(
            f"{past[-1] if past else 'nothing'} has become {stage} meanwhile, so {leaving} stays as it is"
        )
    if len(past) < 2:
        has = f"has had nothing before {past[0]}" if past else "has had no version"
        raise NothingBeforeError(f"stage {stage} {has}: choose one of `metaloom models` for `metaloom promote`")
    before, present = past[-2:]
    commit = next((each.commit for each in model_versions(root) if each.version == before), None)
    if commit is None:
        raise MetaloomError(
            f"what was {stage} before ({before[:8]}) is no version any more, as its tag is gone: `git fetch --tags` "
            "brings it back, or `metaloom promote` puts another version there"
        )
    _check_bundle(root, commit)
    put_into(root, before, stage, message)
    return present, before


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
    """The versions that each stage has had, but for those that have left it, in the order in which `dvc artifacts get`
    reads its tags: by time, those of the same second by name."""
    events = [each for each in _state(root)[1] if each["event"] in ("assignment", "unassignment")]
    stages: dict[str, list[str]] = {}
    for each in sorted(events, key=lambda event: (event["timestamp"], event["ref"])):
        stage, version = each["stage"], each["version"]
        if each["event"] == "assignment":
            stages.setdefault(stage, []).append(version)
        else:
            stages[stage] = [other for other in stages.get(stage, []) if other != version]
    return {stage: versions for stage, versions in stages.items() if versions}


def _present_commit(root: Path) -> str:
    found = head(root)
    if found is None:
        raise MetaloomError("there is no commit to make a version of: `git init`, `metaloom run`, `git commit`")
    commit, code_differs = found
    if not (root / LOCK).is_file() and not (root / Outputs(root).bundle).exists():
        raise MetaloomError("there is no bundle yet: `metaloom run`, then `git commit`")
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


def _shown(root: Path) -> list[dict[str, Any]]:
    """What GTO shows of each commit that has a tag of the artifact."""
    return _state(root)[0]


def _state(root: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What GTO shows, and the history of it; it reads all tags for every question, so they are kept while these are
    the same. Where git does not say which tags there are, GTO is asked."""
    present = tags_as_they_are(root)
    return (_read if present else _read.__wrapped__)(str(root), present)


@lru_cache(maxsize=4)
def _read(root: str, _present: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    try:
        if not any(each == BUNDLE for each in _gto().show(root)):  # which it takes for an error
            return [], []
        return _gto().show(root, BUNDLE), _gto().history(root, BUNDLE)
    except (AttributeError, TypeError) as error:  # of GTO, where a tag is of a file or a folder
        raise MetaloomError(
            f"a tag of {BUNDLE} is none of a commit ({error}): `git for-each-ref 'refs/tags/{BUNDLE}*'` shows of what "
            "each is, and `git tag -d` removes it"
        ) from None


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
    except OSError as error:  # of pygit2, without a number
        if error.errno is not None or "lock" not in str(error):
            raise
        said = re.sub(r"\s+", " ", str(error)).strip(" :")
        raise MetaloomError(
            f"git: {said}: another command of git's is at work; if none is, a killed one left that file: remove it"
        ) from None
