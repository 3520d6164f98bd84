"""`metaloom run`: the whole pipeline, as a flow."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from metaloom.cli.prefect_server import own_server, prefect_server
from metaloom.cli.project import ended_by_signals, enter_project, given_overrides
from metaloom.errors import BAD_INPUT, FAILED
from metaloom.pipeline.cached import cached_run
from metaloom.pipeline.stages import stage_names, stages_for
from metaloom.pipeline.summary import NARROW, RunSummary, as_text
from metaloom.planning.budget import check_minutes
from metaloom.system.lock import STATE, project_lock
from metaloom.system.terminal import QUIET, complain, console, quiet, say
from metaloom.versioning.data import refuse_no_data
from metaloom.versioning.project import overriding


def run(
    stage: Annotated[
        str | None, typer.Argument(help="Only this stage of dvc.yaml, and those that it depends on: `train`, say.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting for this run. Repeatable."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Choose widths, steps and episodes so that the whole run takes N minutes; 0: no budget.",
        ),
    ] = None,
    locked: Annotated[bool, typer.Option("--locked", help="Refuse to make a new version of a changed data/.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait up to SECONDS for another run to finish.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Run every stage, also those that are up to date.")] = False,
    be_quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; errors only.")] = False,
) -> None:
    """Bring everything up to date: data version, dataset, splits, models, evaluation, bundle, report.

    Only what has changed is run; with STAGE no more than that stage needs. Ends with 0 when all is well, 1 when a stage
    failed, 2 on bad input and where --minutes is too short.
    """
    began = time.monotonic()
    if be_quiet:
        os.environ[QUIET] = "1"
    check_minutes(minutes)
    root = enter_project()
    overrides = given_overrides(root, set_)
    refuse_no_data(root)
    if stage is not None:
        with overriding(overrides):
            stages_for(root, stage)  # before a server starts
    with ended_by_signals(), project_lock(root, wait):
        found = None if force or minutes is not None else _cached(root, overrides, stage)
        if found is None:
            found = _made(_pipeline(root, locked, overrides, minutes, force, stage))
    width = get_terminal_size().columns if sys.stdout.isatty() else NARROW
    say(as_text(replace(found, seconds=time.monotonic() - began), width))  # with the time of Prefect's start


def _cached(root: Path, overrides: dict[str, Any], only: str | None) -> RunSummary | None:
    """Where nothing is due, and no server of one's own would list the run; None otherwise.

    Runs that were killed, which their notes tell, are for the flow to mark.
    """
    if any(Path(root, STATE, "flow-runs").glob("*.json")) or own_server(root):
        return None
    with overriding(overrides):
        return cached_run(root, only)


def _pipeline(
    root: Path, locked: bool, overrides: dict[str, Any], minutes: float | None, force: bool, only: str | None
) -> Any:
    """Run the flow; while a temporary server starts (seconds), import the rest and have DVC read dvc.yaml."""
    starting = console().status("starting Prefect") if console().is_terminal and not quiet() else nullcontext()
    with starting, overriding(overrides):
        server = prefect_server(root)
        from flows.notes import mark_crashed
        from flows.pipeline import pipeline

        stage_names(root)
        server.wait()
    for line in mark_crashed(root):
        say(line)
    options: dict[str, Any] = {"locked": locked, "minutes": minutes, "force": force, "only": only}
    return pipeline(str(root), overrides=overrides or None, **options, return_state=True)


def _made(state: Any) -> RunSummary:
    """What the flow's run has to say, or its error."""
    from flows.pipeline import reason
    from metaloom.pipeline.child import RefusedError

    if state.is_completed():
        return state.result()
    complain(f"error: {reason(state)}")
    raise typer.Exit(BAD_INPUT if state.name == RefusedError.state else FAILED)
