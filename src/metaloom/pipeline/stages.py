"""The stages of dvc.yaml: their order, whether one is current, and running one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from enum import IntEnum
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.pipeline.reading import misread, reading
from metaloom.system.terminal import say
from metaloom.versioning.intact import Hashes, damaged, put_back
from metaloom.versioning.project import DAG, chain, open_project

FORCE = "--force"
OURS = "python -m metaloom.stages."  # how the commands of our stages begin in dvc.yaml


class StageExit(IntEnum):
    """What became of a stage; the exit codes of `python -m metaloom.pipeline`."""

    RAN = 0
    FAILED = 1
    REFUSED = 2
    CURRENT = 10
    RESTORED = 11  # from DVC's run cache: the same inputs have been seen before
    BUSY = 75  # EX_TEMPFAIL: the same again a little later can succeed


def stage_names(root: str | Path) -> list[str]:
    """The stages of dvc.yaml, each after those it depends on, otherwise as they stand there."""
    with open_project(root) as repo:
        return [str(stage.name) for stage in _in_order(repo, root)]


def stages_for(root: str | Path, name: str) -> list[str]:
    """A stage and those that it depends on, in the order of `stage_names`.

    Args:
        root: the project's root.
        name: of a stage, or what stands before the @ of several: `train` is `train@protonet` and the others.

    Raises:
        MetaloomError: there is none of that name.
    """
    with open_project(root) as repo:
        order, graph = _in_order(repo, root), repo.index.graph
    wanted = [stage for stage in order if name in (stage.name, str(stage.name).partition("@")[0])]
    if not wanted:
        known = dict.fromkeys(str(stage.name).partition("@")[0] for stage in order)
        raise MetaloomError(f"there is no stage {name!r}: {DAG} has {', '.join(known)}")
    needed = set(wanted)
    while more := {each for stage in needed for each in graph.successors(stage)} - needed:
        needed |= more
    return [str(stage.name) for stage in order if stage in needed]


def is_current(root: str | Path, name: str) -> bool:
    """Whether the stage's outputs stand in the workspace as its inputs of now made them."""
    with open_project(root, lock=True) as repo:
        (due,) = _due(root, [repo.stage.load_one(_dag(root), name)]).values()
    return not due


def due_stages(root: str | Path, beside: bool = True) -> list[str]:
    """The stages whose outputs are not those that data, settings and code of now make; none where all is up to date.

    Args:
        root: the project's root.
        beside: also one that lacks only what it writes beside its outputs.
    """
    return [name for name, due in which_are_due(root, beside).items() if due]


def which_are_due(root: str | Path, beside: bool = True) -> dict[str, bool]:
    """The same of every stage, in the order of `stage_names`; dvc.yaml and dvc.lock are read once for all."""
    with open_project(root, lock=True) as repo:
        return _due(root, _in_order(repo, root), beside)


def _in_order(repo: Any, root: str | Path) -> list[Any]:
    from dvc.stage import PipelineStage

    graph, dag = repo.index.graph, _dag(root)
    order = TopologicalSorter({stage: graph.successors(stage) for stage in repo.index.stages})
    stages = [each for each in order.static_order() if isinstance(each, PipelineStage) and each.path == dag]
    if not stages:
        raise MetaloomError(f"{DAG} names no stages: `git checkout {DAG}` brings back the last commit's")
    return stages


def _due(root: str | Path, stages: list[Any], beside: bool = True) -> dict[str, bool]:
    hashes = Hashes(root)
    due = {
        stage.name: bool(stage.changed() or misread(stage) or (beside and _lacking(stage)) or _damaged(stage, hashes))
        for stage in stages
    }
    hashes.save()
    return due


def _lacking(stage: Any) -> str:
    """What is to be said where the file that the stage writes beside its outputs (`beside` of its `meta`) is not there,
    or does not name the hashes of all that was made for the stage: then it is of other results.

    DVC hashes what it knows; a page with times in it would make dvc.lock another one in every run.
    """
    beside = stage.meta.get("beside") if isinstance(stage.meta, dict) else None
    if not isinstance(beside, str):
        return ""
    page = Path(stage.repo.root_dir, beside)
    if not page.is_file():
        return f"{beside} is not there: {stage.name} makes it again"
    text = page.read_text(encoding="utf-8", errors="replace")
    read = [Path(dep.fs_path) for dep in stage.deps]
    made = [out for out in stage.repo.index.outs if any(Path(out.fs_path).is_relative_to(path) for path in read)]
    if all(str(out.hash_info.value) in text for out in made):
        return ""
    return f"{beside} is of other results: {stage.name} makes it again"


def _damaged(stage: Any, hashes: Hashes) -> bool:
    return any(damaged(output, hashes) for output in stage.outs)


def _dag(root: str | Path) -> str:
    return str(Path(root).resolve() / DAG)  # whole, as DVC takes a relative one from the working directory


def reproduce(root: str | Path, name: str, force: bool = False) -> StageExit:
    """Bring one stage up to date; its command writes to this process's standard output and error.

    Args:
        root: the project's root.
        name: the stage, as in dvc.yaml.
        force: run it though it is up to date.

    Raises:
        MetaloomError: the command failed, or DVC refused.
    """
    from dvc.exceptions import ReproductionError
    from dvc.stage.exceptions import StageCmdFailedError

    # chdir: DVC's run cache looks for dvc.yaml in the working directory
    with chdir(root), open_project(root) as repo, _kept_outputs(), _restores() as restored:

        def run(force: bool) -> Any:
            return reading(repo, name, partial(repo.reproduce, name, single_item=True, force=force))

        try:
            done = run(force or _put_back(repo, name))
            if restored and _put_back(repo, name):
                restored.clear()
                done = run(True)
        except ReproductionError as error:
            cause = error.__cause__
            if isinstance(cause, StageCmdFailedError):
                raise MetaloomError(chain(cause)) from None
            raise cause or error from None
    if not done:
        return StageExit.CURRENT
    return StageExit.RESTORED if restored else StageExit.RAN


def _put_back(repo: Any, name: str) -> bool:
    """Put damaged outputs of a stage back that is up to date for DVC.

    Returns:
        Whether it has to run all the same: it has read other data, a file beside them is not there, or neither cache
        nor remote has them whole.
    """
    from dvc.repo import lock_repo

    with lock_repo(repo):
        stage = repo.stage.load_one(repo.root_dir + f"/{DAG}", name)
        if stage.changed():
            return False
        if other := misread(stage) or _lacking(stage):
            say(other)
        return bool(other) or put_back(stage, repo.root_dir)


@contextmanager
def _kept_outputs() -> Iterator[None]:
    """DVC clears a stage's outputs before it starts the command. Ours replace them as a whole when they have succeeded:
    until then, and for good if they fail, the last good ones stay."""
    from dvc.stage import Stage

    clear = Stage.remove_outs

    def keep(stage: Any, *arguments: Any, **options: Any) -> None:
        if OURS not in str(stage.cmd):
            clear(stage, *arguments, **options)

    Stage.remove_outs = keep
    try:
        yield
    finally:
        Stage.remove_outs = clear


@contextmanager
def _restores() -> Iterator[list[str]]:
    """Collects DVC's messages that it took a stage from the run cache: it tells of that nowhere else."""
    found: list[str] = []
    logger = logging.getLogger("dvc.stage.cache")

    def listen(record: logging.LogRecord) -> bool:
        if "is cached - skipping run" in record.msg:
            found.append(record.getMessage())
        return False

    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(listen)
    try:
        yield found
    finally:
        logger.removeFilter(listen)
        logger.setLevel(before)
