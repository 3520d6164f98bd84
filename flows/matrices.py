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
from functools import partial
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound

from flows.asking import GIVEN, Asked, Team
from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import is_current
from metaloom.retraining import elsewhere, transfers
from metaloom.system.lock import BusyError
from metaloom.system.plural import some
from metaloom.system.terminal import say

EVERY = 2.0  # seconds between looks at what others are at


class Matrices:
    """The stages of a run that are made at the same time.

    Args:
        team: who helps; None: nobody.
        place: the workspace.
        names: the run's stages, in their order.
        here: makes one of them.
        there: has one that another worker has made, by a function that brings it.
    """

    def __init__(
        self,
        team: Team | None,
        place: str,
        names: list[str],
        here: Callable[[str], State[Any]],
        there: Callable[[str, Callable[[], None]], State[Any]],
    ) -> None:
        self.team, self.place, self.names, self.here, self.there = team, place, names, here, there
        self.seconds: dict[str, float] = {}
        self._states: dict[str, State[Any]] = {}
        self._seen: set[str] = set()

    def made(self, name: str) -> State[Any] | None:
        """What became of a stage, after all of its matrix that were due were made; None: it is to be made alone.

        Where one of them has failed, that is what became of it.
        """
        matrix = name.partition("@")[0]
        if self.team and "@" in name and matrix not in self._seen:
            self._seen.add(matrix)
            whole = [each for each in self.names if each.startswith(f"{matrix}@")]
            if due := self._due(whole):
                self._states |= Shared(self.team, due, whole, self._timed).made()
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


class Shared:
    """Stages of one matrix that are due.

    Args:
        team: who helps.
        names: of the stages that are due.
        whole: the matrix, in its order.
        have: makes one of them here; with a function that brings it, has one that another worker has made.
    """

    def __init__(self, team: Team, names: list[str], whole: list[str], have: Callable[..., State[Any]]) -> None:
        self.team, self.names, self.whole, self.have = team, names, whole, have
        self.night = team.night
        self.asked: dict[str, Asked] = {}
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
            elsewhere.put_in_order(self.team.place, self.whole)
        finally:
            for name in list(self.asked):
                self._take_back(name)
        return self.states

    def _offer(self) -> None:
        try:
            elsewhere.offer(self.team.root, self.team.place, self.night)
            for name in self.names[1:]:
                self._ask(name)
            say(f"other workers may make {some(list(self.asked), 4)}")
        except (MetaloomError, HTTPError, ObjectNotFound) as error:
            say(f"no other worker helps: {error}")

    def _ask(self, name: str) -> None:
        if asked := self.team.ask(name):
            self.asked[name] = asked

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """While this worker is at a stage, those of workers that are lost meanwhile are asked for again."""
        over = threading.Event()

        def watch() -> None:
            seen: set[UUID] = set()
            while not over.wait(EVERY):
                for name, asked in self.asked.items():
                    state = self.team.state(asked)
                    if state is not None and state.is_crashed() and asked.run not in seen:
                        seen.add(asked.run)
                        with suppress(MetaloomError, HTTPError, ObjectNotFound):
                            self._ask(name)

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
            state = self.team.state(asked)
            if state is None or not state.is_final():
                continue
            del self.asked[name]
            if state.name == GIVEN:
                made = self.have(name, partial(elsewhere.take_stage, self.team.root, self.team.place, self.night, name))
                if made.is_completed():
                    self.states[name] = made
                    continue
                state = made
            say(f"{name} was not made by another worker ({state.name}: {state.message}): it is made here")
            with suppress(MetaloomError):  # it begins from the start
                transfers.take_checkpoints(self.team.place, self.night.key, name)
            own.append(name)
        return own

    def _next(self) -> list[str]:
        """The last stage that nobody has begun; where there is none, wait a little."""
        for name, asked in reversed(self.asked.items()):
            state = self.team.state(asked)
            if state is not None and state.is_scheduled() and self._take_back(name):
                return [name]
        if self.asked:
            time.sleep(EVERY)
        return []

    def _take_back(self, name: str) -> bool:
        """Whether nobody begins it any more."""
        if self.team.take_back(self.asked[name]):
            del self.asked[name]
            return True
        return False
