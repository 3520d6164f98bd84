"""Which process runs which flow run: one that is killed cannot tell Prefect's server, so that somebody else does.

Prefect's own way is a heartbeat, of which an automation notices that it is missing. A beat takes 30 s at least, and a
run that cannot reach its server for a while would be called crashed while it trains on.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from metaloom.config import PARAMS, read_params, value_at
from metaloom.system.ending import end_after_sigterm
from metaloom.system.files import write_json
from metaloom.system.lock import STATE
from metaloom.versioning.leftovers import lives

FOLDER = f"{STATE}/flow-runs"
STARTING = timedelta(seconds=45)  # that the process of a run may take until it has written its note
_ours: dict[UUID, Path] = {}


def this_run() -> FlowRun | None:
    """The run of the flow that calls it; None outside of one."""
    context = FlowRunContext.get()
    return context.flow_run if context else None


def note(root: str | Path) -> None:
    """This process runs the flow that calls it; the note goes when the server knows how the flow ended."""
    if run := this_run():
        path = Path(root, FOLDER, f"{run.id}.json")
        write_json(path, {"pid": os.getpid(), "host": socket.gethostname()})
        _ours[run.id] = path
        end_after_sigterm()


def _forget(_flow: Any, run: FlowRun, _state: Any) -> None:
    if path := _ours.pop(run.id, None):
        path.unlink(missing_ok=True)


def forget() -> None:
    """The flow that calls it is going to be suspended: its process ends, and the run does not."""
    if run := this_run():
        _forget(None, run, None)


FORGET: dict[str, Any] = {  # what a flow that is noted is declared with
    f"on_{ended}": [_forget] for ended in ("completion", "failure", "cancellation", "crashed")
}


def deployment(root: str | Path) -> str:
    """The name of the project's deployment, as Prefect's commands take it."""
    found = value_at(read_params(Path(root, PARAMS)), "retrain.name") if Path(root, PARAMS).is_file() else None
    return f"retrain/{found or 'retrain'}"


def living(root: str | Path) -> list[UUID]:
    """The flow runs of this machine whose process is at work."""
    return [run for run, alive in _noted(root) if alive]


def killed(root: str | Path) -> list[UUID]:
    """The flow runs of this machine whose process is gone, and which nobody has told the server of."""
    return [run for run, alive in _noted(root) if not alive]


def _noted(root: str | Path) -> Iterator[tuple[UUID, bool]]:
    for path in Path(root, FOLDER).glob("*.json"):
        try:
            found, written = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
            run, host, pid = UUID(path.stem), str(found["host"]), int(found["pid"])
        except FileNotFoundError:  # the flow has ended
            continue
        except (ValueError, KeyError, TypeError):  # the machine lost its power before the disk had it
            path.unlink(missing_ok=True)
            continue
        if host == socket.gethostname():
            yield run, lives(pid, written)


def mark_crashed(root: str | Path, taken_before: datetime | None = None) -> list[str]:
    """Tell Prefect's server of the runs whose process is gone.

    Args:
        root: the project's root.
        taken_before: those also that a `metaloom serve` had taken before then, and that never began: it was killed
            with them.

    Returns:
        A line for each.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    gone = killed(root)
    if not gone and taken_before is None:
        return []
    lines = []
    with get_client(sync_client=True) as client:
        for run in [*gone, *(_never_begun(client, root, taken_before) if taken_before else ())]:
            lines += _marked(client, run)
            Path(root, FOLDER, f"{run}.json").unlink(missing_ok=True)
    return lines


def _marked(client: SyncPrefectClient, run: UUID) -> Iterator[str]:
    try:
        found = client.read_flow_run(run)
    except ObjectNotFound:  # of another server, which ended with it
        return
    if found.state is None or not (found.state.is_final() or found.state.is_paused()):  # suspended: it has no process
        client.set_flow_run_state(run, Crashed(message="its process was killed"))
        yield f"the flow run {found.name} is marked as crashed: its process was killed"


def _never_begun(client: SyncPrefectClient, root: str | Path, taken_before: datetime) -> list[UUID]:
    try:
        found = client.read_deployment_by_name(deployment(root))
    except ObjectNotFound:
        return []
    if found.work_pool_name:  # a worker's, which may be of another machine
        return []
    pending = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[found.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING])),
    )
    latest = min(taken_before, datetime.now(UTC) - STARTING)
    return [
        run.id for run in client.read_flow_runs(flow_run_filter=pending) if run.state and run.state.timestamp < latest
    ]
