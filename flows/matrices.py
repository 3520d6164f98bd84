"""The stages of a matrix, which workers of the same pool make at the same time.

The run that has the retraining asks for a run of a second deployment for each stage but the one that it makes itself.
Who is free takes one; what nobody has taken when this run is free again, it makes itself, so it never waits for
somebody to begin. Nor does it count on those who have: a worker that is silent for too long is taken for lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import is_current
from metaloom.retraining import elsewhere, transfers
from metaloom.retraining.clones import handover
from metaloom.retraining.nights import Night, nights
from metaloom.system.lock import BusyError
from metaloom.system.plural import some
from metaloom.system.terminal import say

FLOW, SUFFIX = "stage", "-stages"  # the second deployment: its flow, and how its name goes on from the first's
SILENT = 120.0  # seconds after which a worker without a heartbeat, and a run that does not begin, are lost
EVERY = 2.0  # seconds between looks at what others are at
TRIES = 10  # that a stage of one retraining may take, all workers together
GIVEN = "Ran"  # the state of a run whose stage can be taken


@dataclass(frozen=True)
class Elsewhere:
    """Other workers, for one retraining.

    Args:
        root: the project's, in this worker's clone.
        place: the retraining's workspace.
        deployment: of single stages.
    """

    root: Path
    place: Path
    deployment: UUID


def found(root: Path, place: Path) -> Elsewhere | None:
    """Other workers for the retraining in this workspace; None where nobody has deployed them, or this one is alone."""
    run = this_run()
    if run is None or run.deployment_id is None or handover(root) is None:
        return None
    with suppress(HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        own = client.read_deployment(run.deployment_id)
        second = client.read_deployment_by_name(f"{FLOW}/{own.name}{SUFFIX}")
        if not second.paused and second.work_pool_name and _several(client, second.work_pool_name):
            return Elsewhere(root, place, second.id)
    return None


def _several(client: SyncPrefectClient, pool: str) -> bool:
    """Whether another worker may take a stage; a cluster begins a job for each, with a clone of its own."""
    workers = client.read_workers_for_work_pool(pool)
    at_work = [each for each in workers if each.status == WorkerStatus.ONLINE]
    return len(at_work) > 1 or client.read_work_pool(pool).type not in ("process", "docker")


class Matrices:
    """The stages of a run that are made at the same time.

    Args:
        others: who helps; None: nobody.
        place: the workspace.
        names: the run's stages, in their order.
        here: makes one of them.
        there: has one that another worker has made, by a function that brings it.
    """

    def __init__(
        self,
        others: Elsewhere | None,
        place: str,
        names: list[str],
        here: Callable[[str], State[Any]],
        there: Callable[[str, Callable[[], None]], State[Any]],
    ) -> None:
        self.others, self.place, self.names, self.here, self.there = others, place, names, here, there
        self.seconds: dict[str, float] = {}
        self._states: dict[str, State[Any]] = {}
        self._seen: set[str] = set()

    def made(self, name: str) -> State[Any] | None:
        """What became of a stage, after all of its matrix that were due were made; None: it is to be made alone.

        Where one of them has failed, that is what became of it.
        """
        matrix = name.partition("@")[0]
        if self.others and "@" in name and matrix not in self._seen:
            self._seen.add(matrix)
            whole = [each for each in self.names if each.startswith(f"{matrix}@")]
            if due := self._due(whole):
                self._states |= _Shared(self.others, due, whole, self._timed).made()
        return next((each for each in self._states.values() if not each.is_completed()), self._states.get(name))

    def _due(self, names: list[str]) -> list[str]:
        try:
            return [name for name in names if not is_current(self.place, name)]
        except BusyError:  # each stage's task asks for itself, and again
            return []

    def _timed(self, name: str, *take: Callable[[], None]) -> State[Any]:
        """Made here, or taken from another worker."""
        began = time.monotonic()
        state = self.there(name, *take) if take else self.here(name)
        self.seconds[name] = time.monotonic() - began
        return state


@dataclass
class _Asked:
    """A run that was asked for, and when it was last heard of."""

    run: UUID
    sign: str = ""
    heard: float = field(default_factory=time.monotonic)

    def is_silent(self, sign: str) -> bool:
        """Whether nothing new was heard for too long; `sign` is the newest."""
        if sign and sign != self.sign:
            self.sign, self.heard = sign, time.monotonic()
        return time.monotonic() - self.heard > SILENT


class _Shared:
    """Stages of one matrix that are due.

    Args:
        others: who helps.
        names: of the stages that are due.
        whole: the matrix, in its order.
        have: makes one of them here; with a function that brings it, has one that another worker has made.
    """

    def __init__(self, others: Elsewhere, names: list[str], whole: list[str], have: Callable[..., State[Any]]) -> None:
        self.others, self.names, self.whole, self.have = others, names, whole, have
        self.night = _night(others)
        self.asked: dict[str, _Asked] = {}
        self.states: dict[str, State[Any]] = {}

    def made(self) -> dict[str, State[Any]]:
        """Make all, here and elsewhere; after one that fails here, no more are begun."""
        if len(self.names) > 1:
            self._offer()
        try:
            own = [name for name in self.names if name not in self.asked]
            while own or self.asked:
                for name in own:
                    with self._watched():
                        self.states[name] = self.have(name)
                    if not self.states[name].is_completed():
                        return self.states
                own = self._come_back() or self._next()
            elsewhere.put_in_order(self.others.place, self.whole)
        finally:
            for name in list(self.asked):
                self._take_back(name)
        return self.states

    def _offer(self) -> None:
        try:
            elsewhere.offer(self.others.root, self.others.place, self.night)
            self._ask(self.names[1:])
            say(f"other workers may make {some(list(self.asked), 4)}")
        except (MetaloomError, HTTPError, ObjectNotFound) as error:
            say(f"no other worker helps: {error}")

    def _ask(self, names: list[str]) -> None:
        with get_client(sync_client=True) as client:
            for name in names:
                if run := self._run_for(client, name):
                    self.asked[name] = _Asked(run.id)

    def _run_for(self, client: SyncPrefectClient, name: str) -> FlowRun | None:
        """One that makes the stage, or has made it, perhaps for a worker that had this retraining before."""
        wanted = {"training": self.night.key, "name": name}
        for number in range(TRIES):
            key = f"{self.night.key} {name} {number}"
            run = client.create_flow_run_from_deployment(self.others.deployment, parameters=wanted, idempotency_key=key)
            if run.state is None or not run.state.is_final() or run.state.name == GIVEN:
                return run
        return None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """While this worker is at a stage, those of workers that are lost meanwhile are asked for again."""
        over = threading.Event()

        def watch() -> None:
            seen: set[UUID] = set()
            while not over.wait(EVERY):
                for name, asked in self.asked.items():
                    state = self._state(asked)
                    if state is not None and state.is_crashed() and asked.run not in seen:
                        seen.add(asked.run)
                        with suppress(HTTPError, ObjectNotFound):
                            self._ask([name])

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def _come_back(self) -> list[str]:
        """Have what others have made; what they have failed at, or were lost at, is to be made here."""
        own = []
        for name, asked in list(self.asked.items()):
            state = self._state(asked)
            if state is None or not state.is_final():
                continue
            del self.asked[name]
            if state.name == GIVEN:
                made = self.have(name, _take(self.others, self.night, name))
                if made.is_completed():
                    self.states[name] = made
                    continue
                state = made
            say(f"{name} was not made by another worker ({state.name}: {state.message}): it is made here")
            with suppress(MetaloomError):  # it begins from the start
                transfers.take_checkpoints(self.others.place, self.night.key, name)
            own.append(name)
        return own

    def _state(self, asked: _Asked) -> State[Any] | None:
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

    def _next(self) -> list[str]:
        """The last stage that nobody has begun; where there is none, wait a little."""
        for name, asked in reversed(self.asked.items()):
            state = self._state(asked)
            if state is not None and state.is_scheduled() and self._take_back(name):
                return [name]
        if self.asked:
            time.sleep(EVERY)
        return []

    def _take_back(self, name: str) -> bool:
        """Whether nobody begins it any more; who has begun goes on, and what comes of it may be taken."""
        run = self.asked[name].run
        with suppress(HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
            if state is not None and state.is_scheduled():
                message = "the worker that has the retraining was free before another"
                client.set_flow_run_state(run, Completed(name="Skipped", message=message), force=True)
                del self.asked[name]
                return True
        return False


def _night(others: Elsewhere) -> Night:
    (night,) = (each for each in nights(others.root) if others.place.is_relative_to(each.workspace(others.root)))
    return night


def _take(others: Elsewhere, night: Night, name: str) -> Callable[[], None]:
    return lambda: elsewhere.take(others.root, others.place, night, name)


def _sign(client: SyncPrefectClient, run: FlowRun) -> str:
    """What changes while a run's worker is there: its state, and its newest event, heartbeats among them."""
    of_run = EventFilter(resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]))
    events = client.read_events(of_run, limit=1).events  # written some seconds late, so the state counts too
    return f"{run.state.id if run.state else ''} {events[0].id if events else ''}"
