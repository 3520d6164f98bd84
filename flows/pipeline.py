"""The pipeline as a Prefect flow: the data version, then one task for each stage of dvc.yaml.

DVC alone decides what is cached; Prefect sees, records, retries. A task's state is named `Ran` or `Cached`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from httpx import HTTPError
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.asking import Team
from flows.matrices import Matrices
from flows.notes import FORGET, note
from metaloom.config import PARAMS, load_settings, read_params
from metaloom.config.settings import LimitSettings
from metaloom.errors import MetaloomError
from metaloom.pipeline.child import RefusedError, reproduce_in_child, run_module
from metaloom.pipeline.code import renew_code
from metaloom.pipeline.stages import StageExit, is_current, stage_names, stages_for, which_are_due
from metaloom.pipeline.summary import StageRun, as_markdown, as_text, summarise
from metaloom.planning.budget import (
    BUDGET,
    NO_BUDGET,
    budget_for,
    check_minutes,
    planned_at,
    read_budget,
    with_budget,
    write_budget,
)
from metaloom.system.escaping import shown
from metaloom.system.limits import HungError, Watch
from metaloom.system.lock import BusyError, project_lock
from metaloom.system.provenance import data_version
from metaloom.system.terminal import complain, say
from metaloom.versioning.data import version_dataset as make_version
from metaloom.versioning.project import find_root, overriding

RETRY_SECONDS = [2, 10]


def _busy(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Trying again helps against a lock, a locked database, an unreachable remote; not against bad input."""
    return isinstance(state.result(raise_on_failure=False), BusyError)


RETRIED: dict[str, Any] = {
    "retries": len(RETRY_SECONDS),
    "retry_delay_seconds": RETRY_SECONDS,
    "retry_condition_fn": _busy,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(name="version_dataset", task_run_name="version_dataset", **RETRIED)
def version_dataset(root: str, locked: bool) -> State[Any]:
    """data/ is there and data.dvc names it."""
    try:
        version = make_version(root, locked=locked)
    except BusyError:
        raise
    except MetaloomError as error:
        return _failure(error)
    if version.changed:
        say(version.message)
    name = "Ran" if version.changed else "Cached"
    return Completed(name=name, message=version.message, data=version)


@task(**RETRIED)
def stage(root: str, name: str, force: bool, limits: LimitSettings, current: bool = False) -> State[Any]:
    """One stage of dvc.yaml, run if DVC finds it out of date, or with `force`; `current`: it was not, just now."""
    try:
        if not force and (current or is_current(root, name)):
            return Completed(name="Cached", message=f"{name} is up to date")
        say(name)
        outcome = reproduce_in_child(root, name, *_listeners(), force=force, watch=_watch(limits))
    except BusyError:
        raise
    except MetaloomError as error:
        return _failure(error)
    if outcome is StageExit.RAN:
        return Completed(name="Ran", message=f"{name} ran")
    return Completed(name="Cached", message=f"{name} was restored from DVC's run cache")


@task(**RETRIED)
def taken(root: str, name: str, take: Callable[[], None]) -> State[Any]:
    """A stage that another worker has made, of the same inputs to the last bit; `take` brings it here."""
    try:
        take()
        if is_current(root, name):
            return Completed(name="Ran", message=f"{name} ran on another worker")
    except BusyError:
        raise
    except MetaloomError as error:
        return _failure(error)
    return Failed(message=f"{name} was made of other inputs than it has here")


def _watch(limits: LimitSettings) -> Watch:
    return Watch(60 * limits.stage_minutes, 60 * limits.stall_minutes)


def _failure(error: MetaloomError) -> State[Any]:
    return Failed(
        name=error.state if isinstance(error, HungError | RefusedError) else "Failed", message=shown(str(error))
    )


@task(name="budget", task_run_name="budget", **RETRIED)
def budget(root: str, minutes: float, began: float, limits: LimitSettings) -> State[Any]:
    """budget.yaml says how much work fits into so many minutes with these data and settings; 0: there is no budget.

    Where `metaloom plan` has chosen it, that is what is run.

    Args:
        root: the project's root.
        minutes: for the whole run.
        began: Unix time at which the run did.
        limits: of a stage, which hold for the measuring too.
    """
    path = Path(root, BUDGET)
    kept = read_budget(path)
    asked = budget_for(minutes, data_version(root), read_params(Path(root, PARAMS))) if minutes else NO_BUDGET
    changes = kept.changes(asked)
    if not changes:
        return Completed(name="Cached", message=f"{BUDGET} is up to date")
    if not minutes:
        write_budget(path, NO_BUDGET)
        return Completed(name="Ran", message="no budget")
    say("budget" if "minutes" in changes else f"budget: chosen again, for other {' and '.join(changes)} than before")
    try:
        planned = read_budget(Path(root, planned_at(minutes)))
        if planned.changes(asked):
            arguments = [f"{minutes:g}", f"{began:.3f}"]
            run_module(root, "metaloom.measuring", arguments, *_listeners(), _watch(limits))
        else:
            write_budget(path, planned)
            say(f"  effort {planned.effort:.2f}, as `metaloom plan` has chosen")
    except MetaloomError as error:
        return _failure(error)
    return Completed(name="Ran", message=f"{BUDGET} written")


def _listeners() -> tuple[Callable[[str], None], Callable[[str], None]]:
    """Take a stage's lines to the run's logs and the terminal; its `error:` line comes at the end, once."""
    logger = get_run_logger()

    def out(line: str) -> None:
        logger.info(shown(line))
        say(f"  {line}")

    def err(line: str) -> None:
        logger.warning(shown(line))
        if not line.startswith("error: "):
            complain(line)

    return out, err


@flow(name="pipeline", persist_result=False, validate_parameters=False, **FORGET)
def pipeline(
    root: str = ".",
    locked: bool = False,
    wait: int | float = 0,
    overrides: dict[str, Any] | None = None,
    minutes: int | float | None = None,
    force: bool = False,
    only: str | None = None,
    team: Team | None = None,
) -> State[Any]:
    """Bring everything up to date.

    Args:
        root: the project's root, or a folder in it.
        locked: refuse to make a new version of data/.
        wait: seconds to wait for another run in the same project.
        overrides: dotted settings and their values, for this run only.
        minutes: for the whole run, from now on; 0: without a budget again; None: as before.
        force: run every stage, also those that are up to date.
        only: a stage: it and those that it depends on, and no others.
        team: other workers, where they can make stages of a matrix at the same time.
    """
    started = time.monotonic()
    try:
        check_minutes(minutes)
        project = str(find_root(root))
        note(project)
        with overriding(overrides or {}), project_lock(project, wait):
            limits = load_settings(Path(project, PARAMS)).limits
            renew_code(project)
            return _run(project, locked, minutes, force, limits, started, only, team)
    except MetaloomError as error:
        get_run_logger().error(shown(str(error)))
        return Failed(message=shown(str(error)))


def _run(
    root: str,
    locked: bool,
    minutes: float | None,
    force: bool,
    limits: LimitSettings,
    started: float,
    only: str | None,
    team: Team | None,
) -> State[Any]:
    wanted = None if only is None else stages_for(root, only)
    planned = wanted is None or "plan" in wanted
    if minutes is not None and not planned:
        raise MetaloomError(
            f"--minutes is for a run with the stage plan, and {only} does without it: leave one of them out"
        )
    data = version_dataset(root, locked, return_state=True)
    if not data.is_completed():
        return failed(data)
    done: list[StageRun] = []
    minutes = read_budget(Path(root, BUDGET)).minutes if minutes is None else minutes
    asked = minutes or 0, time.time() - (time.monotonic() - started)
    due, unchanged = _due(root), True
    names = list(due) if wanted is None else wanted
    at_once = Matrices(team, root, names, partial(_made, root, limits=limits), partial(_taken, root))
    for name in with_budget(names, minutes) if planned else names:
        began = time.monotonic()
        if name == "budget":
            state = budget(root, *asked, limits, return_state=True)
            unchanged = unchanged and state.name == "Cached"
        else:
            unchanged = unchanged and not due[name]
            state = None if unchanged else at_once.made(name)
            if state is None:
                began = time.monotonic()
                state = _made(root, name, limits, force, unchanged)
        if not state.is_completed():
            return failed(state)
        done.append(StageRun(name, state.name or "Ran", at_once.seconds.get(name, time.monotonic() - began)))
    summary = summarise(root, str(data.message), done, time.monotonic() - started)
    summary = summary if len(names) == len(due) else summary.of_a_part()
    get_run_logger().info(shown(as_text(summary)))
    with suppress(HTTPError):  # a client of its own, which does not wait for a server that is away, as the flow's does
        create_markdown_artifact(key="pipeline-summary", markdown=as_markdown(summary))
    return Completed(message=f"{only or 'all stages'} {'is' if only else 'are'} up to date", data=summary)


def _made(root: str, name: str, limits: LimitSettings, force: bool = False, current: bool = False) -> State[Any]:
    return stage.with_options(name=name, task_run_name=name)(root, name, force, limits, current, return_state=True)


def _taken(root: str, name: str, take: Callable[[], None]) -> State[Any]:
    return taken.with_options(name=name, task_run_name=name)(root, name, take, return_state=True)


def _due(root: str) -> dict[str, bool]:
    """All stages and whether each is due; of those after the first that is, its end has to be awaited."""
    try:
        return which_are_due(root)
    except BusyError:  # each stage's task asks for itself, and again
        return dict.fromkeys(stage_names(root), True)


def failed(state: State[Any]) -> State[Any]:
    """A flow's state after a task or flow in it has failed: the same, with the reason alone."""
    return Failed(name=state.name, message=reason(state))


def reason(state: State[Any]) -> str:
    """What a task or flow failed of: our message as it is, whether it was returned or raised."""
    error = state.result(raise_on_failure=False)
    return str(error) if isinstance(error, MetaloomError) else str(state.message)
