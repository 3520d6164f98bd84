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


def is_current(root: str | Path, name: str) -> bool:
    """Whether the stage's outputs stand in the workspace as its inputs of now made them."""
    with open_project(root, lock=True) as repo:
        (due,) = _due(root, [repo.stage.load_one(_dag(root), name)]).values()
    return not due


def due_stages(root: str | Path) -> list[str]:
    """The stages whose outputs are not those that data, settings and code of now make; none where all is up to date."""
    return [name for name, due in which_are_due(root).items() if due]


def which_are_due(root: str | Path) -> dict[str, bool]:
    """The same of every stage, in the order of `stage_names`; dvc.yaml and dvc.lock are read once for all."""
    with open_project(root, lock=True) as repo:
        return _due(root, _in_order(repo, root))


def _in_order(repo: Any, root: str | Path) -> list[Any]:
    from dvc.stage import PipelineStage

    graph, dag = repo.index.graph, _dag(root)
    order = TopologicalSorter({stage: graph.successors(stage) for stage in repo.index.stages})
    return [each for each in order.static_order() if isinstance(each, PipelineStage) and each.path == dag]


def _due(root: str | Path, stages: list[Any]) -> dict[str, bool]:
    hashes = Hashes(root)
    due = {stage.name: bool(stage.changed() or misread(stage) or _damaged(stage, hashes)) for stage in stages}
    hashes.save()
    return due


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
        Whether it has to run all the same: it has read other data, or neither cache nor remote has them whole.
    """
    from dvc.repo import lock_repo

    with lock_repo(repo):
        stage = repo.stage.load_one(repo.root_dir + f"/{DAG}", name)
        if stage.changed():
            return False
        if other := misread(stage):
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
