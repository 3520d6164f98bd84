"""What Prefect's server hears of a retraining beside its state: an event, and all nights as an artifact."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from httpx import HTTPError
from prefect.artifacts import create_table_artifact
from prefect.events import DeploymentEventTrigger, emit_event

from flows.notes import deployment
from metaloom.errors import MetaloomError
from metaloom.retraining.history import rows
from metaloom.retraining.nights import Night, nights
from metaloom.system.escaping import markdown
from metaloom.system.plural import several

ARRIVED = "metaloom.data.arrived"  # starts the deployment
ENDED = "metaloom.retraining.{}"  # with what became of it
NOTHING_NEW = "nothing-new"
SHOWN = 100  # nights of the artifact, the newest


def resource(name: str) -> str:
    """How events name a project, by its `retrain.name`."""
    return f"metaloom.project.{name}"


def starts_on_arrival(name: str) -> DeploymentEventTrigger:
    """Somebody says that new data are there: the deployment of the project is run."""
    return DeploymentEventTrigger(
        name=f"metaloom: data arrived for {name}",
        description=f"`prefect event emit {ARRIVED} --resource-id {resource(name)}` starts a retraining",
        expect={ARRIVED},
        match={"prefect.resource.id": resource(name)},  # pyright: ignore[reportArgumentType] (Prefect reads it)
        threshold=1,
        within=timedelta(0),
    )


def announce(root: Path, outcome: str, message: str, night: Night | None = None) -> None:
    """Say what a run came to, and show all nights where one has ended or failed.

    Args:
        root: the project's.
        outcome: of the retraining; `failed`, or `nothing-new`.
        message: a line.
        night: the retraining, where there was one.
    """
    name = deployment(root).partition("/")[2]
    payload: dict[str, Any] = {"message": message}
    if night is not None:
        payload |= {"retraining": night.name, "version": night.version, "branch": night.branch, **night.figures}
    emit_event(ENDED.format(outcome), {"prefect.resource.id": resource(name)}, payload=payload)
    if outcome != NOTHING_NEW:
        with suppress(HTTPError, MetaloomError):  # told by the run's own state
            _show(root, name)


def _show(root: Path, name: str) -> None:
    found = nights(root)
    if found:
        create_table_artifact(
            rows(found[-SHOWN:]),
            key=f"metaloom-history-{re.sub('[^a-z0-9]+', '-', name.lower())}",
            description=f"{several(len(found), 'retraining')} of {name}, the newest first. "
            f"As a page for the browser: `metaloom history --page nights.html` in {markdown(str(root))}.",
        )
