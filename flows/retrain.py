"""Retraining on a schedule: the pipeline when data, settings or code have changed, else nothing.

Whoever reaches Prefect's server may start it, so its parameters can say when, and never what is run: the project is
the one in whose folder it is served.
"""

# no annotations from the future: where a served flow runs, Prefect could not tell what their names mean
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed
from pydantic import Field

from flows.notes import FORGET, note
from flows.pipeline import failed, pipeline
from metaloom.errors import MetaloomError
from metaloom.pipeline.due import await_settled, nothing_due
from metaloom.versioning.project import find_root

Minutes = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=24 * 3600)]


@flow(name="retrain", persist_result=False, **FORGET)
def retrain(stale_minutes: Minutes = 60, wait: Seconds = 600, settle: Seconds = 30, force: bool = False) -> State[Any]:
    """Run the pipeline if data, settings or code have changed; otherwise end as `Skipped`.

    Args:
        stale_minutes: a scheduled run that starts later than this (nothing was serving it) is skipped: after
            a downtime one run is enough, and the next one on the schedule is that.
        wait: seconds to wait for another run in the same project, and for data/ to settle.
        settle: seconds that the newest file of data/ has to be old, so that nothing is half copied.
        force: run every stage, also those that are up to date.
    """
    late = _minutes_late()
    if late > stale_minutes:
        return _skipped(f"scheduled {late:.0f} minutes ago, more than {stale_minutes:g}: left to the next one")
    try:
        project = find_root()
        note(project)
        await_settled(project, settle, wait)
        if not force and (version := nothing_due(project)):
            return _skipped(f"everything is up to date with data/, which is still version {version[:8]}")
    except MetaloomError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))
    state = pipeline(str(project), wait=wait, force=force, return_state=True)
    if state.is_completed():
        return Completed(message=state.message)
    return failed(state)


def _skipped(message: str) -> State[Any]:
    get_run_logger().info("skipped: %s", message)
    return Completed(name="Skipped", message=message)


def _minutes_late() -> float:
    """How long ago the schedule wanted this run to start; 0 for one that was asked for by hand."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or not run.auto_scheduled or run.expected_start_time is None:
        return 0.0
    return (datetime.now(UTC) - run.expected_start_time).total_seconds() / 60
