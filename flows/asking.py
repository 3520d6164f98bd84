"""Runs of a second deployment, each of which makes one stage for the run that has the retraining."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Crashed

from flows.notes import this_run
from metaloom.retraining.clones import handover
from metaloom.retraining.elsewhere import is_given
from metaloom.retraining.nights import Night, nights

FLOW, SUFFIX = "stage", "-stages"  # the second deployment: its flow, and how its name goes on from the first's
SILENT = 120.0  # seconds after which a worker without a heartbeat, and a run that does not begin, are lost
TRIES = 10  # at a stage of one retraining that may fail, all workers together
GIVEN = "Ran"  # the state of a run whose stage can be taken


@dataclass
class Asked:
    """A run that was asked for, and when it was last heard of."""

    run: UUID
    sign: str = ""
    heard: float = field(default_factory=time.monotonic)

    def is_silent(self, sign: str) -> bool:
        """Whether nothing new was heard for too long; `sign` is the newest."""
        if sign and sign != self.sign:
            self.sign, self.heard = sign, time.monotonic()
        return time.monotonic() - self.heard > SILENT


@dataclass(frozen=True)
class Team:
    """Other workers, for one retraining.

    Args:
        root: the project's, in this worker's clone.
        place: the retraining's workspace.
        deployment: of single stages.
    """

    root: Path
    place: Path
    deployment: UUID

    @cached_property
    def night(self) -> Night:
        """What is known of the retraining."""
        (night,) = (each for each in nights(self.root) if self.place.is_relative_to(each.workspace(self.root)))
        return night

    def ask(self, name: str) -> Asked | None:
        """Ask for a run that makes the stage, or has made it, perhaps for a worker that had this retraining before.

        Returns:
            What was asked for; None where too many have failed.

        Raises:
            HTTPError, ObjectNotFound: the server is away, or has no such deployment any more.
            MetaloomError: git's remote does not answer.
        """
        key, failed = self.night.key, 0
        wanted = {"training": key, "name": name}
        with get_client(sync_client=True) as client:
            for number in count():
                once = f"{self.deployment} {key} {name} {number}"  # Prefect compares it with those of every deployment
                run = client.create_flow_run_from_deployment(self.deployment, parameters=wanted, idempotency_key=once)
                if run.state is None or not run.state.is_final():
                    return Asked(run.id)
                if run.state.name == GIVEN:
                    if is_given(self.root, key, name):
                        return Asked(run.id)
                    continue  # it was given to the same training of an earlier time, and cleared away after that
                failed += 1
                if failed == TRIES:
                    break
        return None

    def state(self, asked: Asked) -> State[Any] | None:
        """Of a run; one that has been silent for too long has crashed. None while the server does not say."""
        sign, run = "", None
        try:
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(asked.run)
                sign = _sign(client, run)
        except ObjectNotFound:
            return Crashed(message="its run was deleted")
        except HTTPError:  # the server is away
            pass
        silent = asked.is_silent(sign)
        if run is not None and run.state is not None and (run.state.is_final() or run.state.is_scheduled()):
            return run.state
        if not silent:
            return None
        lost = Crashed(message=f"nothing was heard of its worker for {SILENT:g} s")
        with suppress(HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
            client.set_flow_run_state(asked.run, lost, force=True)
        return lost

    def take_back(self, asked: Asked) -> bool:
        """Whether nobody begins it any more; who has begun goes on, and what comes of it may be taken."""
        with suppress(HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
            state = client.read_flow_run(asked.run).state
            if state is not None and state.is_scheduled():
                message = "the worker that has the retraining was free before another"
                client.set_flow_run_state(asked.run, Completed(name="Skipped", message=message), force=True)
                return True
        return False


def team_of(root: Path, place: Path) -> Team | None:
    """Other workers for the retraining in this workspace; None where nobody has deployed them, or this one is alone."""
    run = this_run()
    if run is None or run.deployment_id is None or handover(root) is None:
        return None
    with suppress(HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        own = client.read_deployment(run.deployment_id)
        second = client.read_deployment_by_name(f"{FLOW}/{own.name}{SUFFIX}")
        if not second.paused and second.work_pool_name and _several(client, second.work_pool_name):
            return Team(root, place, second.id)
    return None


def _several(client: SyncPrefectClient, pool: str) -> bool:
    """Whether another worker may take a stage; a cluster begins a job for each, with a clone of its own."""
    workers = client.read_workers_for_work_pool(pool)
    at_work = [each for each in workers if each.status == WorkerStatus.ONLINE]
    return len(at_work) > 1 or client.read_work_pool(pool).type not in ("process", "docker")


def _sign(client: SyncPrefectClient, run: FlowRun) -> str:
    """What changes while a run's worker is there: its state, and its newest event, heartbeats among them."""
    of_run = EventFilter(resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]))
    events = client.read_events(of_run, limit=1).events  # written some seconds late, so the state counts too
    return f"{run.state.id if run.state else ''} {events[0].id if events else ''}"
