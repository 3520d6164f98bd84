"""Runs that wait for the same: times of the schedule that were missed, as the machine slept or nothing was served, and
triggers that workers have not come to. One run is for all of them.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed

from flows.notes import this_run
from metaloom.errors import MetaloomError
from metaloom.system.plural import several
from metaloom.system.terminal import say

CRASHES = 3  # within a day, after which a person has to look
AUTOMATION = "AUTOMATION"  # who creates the runs that Prefect begins by itself


def skip_missed() -> int:
    """End the other runs of this deployment whose time has passed; how many there were. This run is for them too.

    Triggers by hand are among them where workers take them from a pool, and they ask for the same.
    """
    run = this_run()
    if run is None or run.deployment_id is None:
        return 0
    others = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC)}),
    )
    skipped = 0
    with suppress(HTTPError), get_client(sync_client=True) as client:
        for each in client.read_flow_runs(flow_run_filter=others):
            another = each.id != run.id and not each.empirical_policy.resuming
            if another and (each.auto_scheduled or _same(each, run)):
                with suppress(ObjectNotFound):
                    state = Completed(name="Skipped", message=f"missed; {run.name} is for this time too")
                    client.set_flow_run_state(each.id, state, force=True)
                    skipped += 1
    if skipped:
        say(f"one run for {several(skipped, 'time')} more that {'was' if skipped == 1 else 'were'} missed")
    return skipped


def refuse_after_crashes() -> None:
    """A run that Prefect has begun because another crashed does not begin where that has happened too often.

    Raises:
        MetaloomError: it has.
    """
    run = this_run()
    if run is None or run.deployment_id is None or not run.work_pool_name:
        return  # without workers, it is data that have arrived which begin a run
    if run.created_by is None or run.created_by.type != AUTOMATION:
        return
    crashed = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
        end_time=FlowRunFilterEndTime.model_validate({"after_": datetime.now(UTC) - timedelta(days=1)}),
    )
    with get_client(sync_client=True) as client:
        found = len(client.read_flow_runs(flow_run_filter=crashed))
    if found >= CRASHES:
        raise MetaloomError(
            f"{several(found, 'run')} crashed within a day, so none is begun again by itself: see their logs with "
            "`prefect flow-run logs ID`, and trigger a run by hand"
        )


def _same(other: FlowRun, run: FlowRun) -> bool:
    """Whether a trigger by hand waits for a worker, and asks for what this run does."""
    return bool(run.work_pool_name) and other.parameters == run.parameters
