"""Who makes which stage of a matrix, with a server of our own making: what others do is said by the test."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from httpx import ConnectError
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Crashed, Failed, Pending, Running, Scheduled

from flows import asking, matrices
from flows.asking import Team, team_of
from metaloom.errors import MetaloomError
from metaloom.retraining.nights import FOLDER, Night

DEPLOYMENT = uuid4()
NAMES = ["train@protonet", "train@ridge", "train@maml"]


class Server:
    """Runs that were asked for, by their idempotency keys, and what tests make of them."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.beats = False  # whether workers give signs of life
        self.away = False

    def run(self, name: str, number: int = 0) -> SimpleNamespace:
        return self.runs[f"{DEPLOYMENT} {'a' * 40} {name} {number}"]

    def create_flow_run_from_deployment(self, deployment: UUID, parameters: dict, idempotency_key: str):
        made = SimpleNamespace(id=uuid4(), state=Scheduled(), name=parameters["name"])
        assert parameters["training"] == "a" * 40
        return self.runs.setdefault(idempotency_key, made)

    def read_flow_run(self, run: UUID):
        if self.away:
            raise ConnectError("away")
        for each in self.runs.values():
            if each.id == run:
                return each
        raise ObjectNotFound(KeyError(run))

    def set_flow_run_state(self, run: UUID, state, force: bool):
        assert force
        self.read_flow_run(run).state = state

    def read_events(self, of_run, limit: int):
        beat = [SimpleNamespace(id=time.monotonic())]
        return SimpleNamespace(events=beat if self.beats else [])


class Work:
    """A retraining whose three methods are due; `here` and `there` note who made what."""

    def __init__(self, root: Path, server: Server) -> None:
        self.server, self.made, self.bad, self.cleared = server, [], set(), set()
        self.during = lambda name: None
        Night("n", "a" * 40, "b" * 40, "d", 1.0).save(root)
        self.team = Team(root, root / FOLDER / "n", DEPLOYMENT)

    def have(self, name: str, *take):
        return self.there(name, *take) if take else self.here(name)

    def here(self, name: str):
        self.during(name)
        self.made.append((name, "here"))
        return Failed(message="bad") if name in self.bad else Completed(name="Ran")

    def there(self, name: str, take):
        take()
        self.made.append((name, "there"))
        return Failed(message="of other inputs") if name in self.bad else Completed(name="Ran")

    def run(self) -> dict[str, str]:
        shared = matrices.Shared(self.team, NAMES, NAMES, self.have)
        return {name: state.name for name, state in shared.made().items()}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    server = Server()

    @contextmanager
    def client(sync_client: bool):
        yield server

    monkeypatch.setattr(asking, "get_client", client)
    monkeypatch.setattr(matrices, "EVERY", 0.01)
    monkeypatch.setattr(asking, "is_given", lambda root, key, name: name not in made.cleared)
    for name in ("offer", "take_stage", "put_in_order"):
        monkeypatch.setattr(matrices.elsewhere, name, lambda *_: None)
    monkeypatch.setattr(
        matrices.transfers, "take_checkpoints", lambda place, key, name: made.made.append((name, "checkpoints"))
    )
    made = Work(tmp_path, server)
    return made


def test_what_nobody_begins_is_made_here(work: Work):
    """The last first, as others begin with the first."""
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert work.made == [("train@protonet", "here"), ("train@maml", "here"), ("train@ridge", "here")]
    assert {each.state.name for each in work.server.runs.values()} == {"Skipped"} and len(work.server.runs) == 2


def test_what_others_have_made_is_taken(work: Work):
    def during(name: str) -> None:
        for each in work.server.runs.values():
            each.state = Completed(name="Ran")

    work.during = during
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert work.made == [("train@protonet", "here"), ("train@ridge", "there"), ("train@maml", "there")]


def test_who_is_at_work_is_waited_for(work: Work):
    work.server.beats = True

    def during(name: str) -> None:
        for each in work.server.runs.values():
            each.state = Running()
        threading.Timer(0.3, end).start()

    def end() -> None:
        for each in work.server.runs.values():
            each.state = Completed(name="Ran")

    work.during = during
    work.run()
    assert work.made[1:] == [("train@ridge", "there"), ("train@maml", "there")]


@pytest.mark.parametrize("state", [Failed(message="no"), Completed(name="Skipped")])
def test_what_others_fail_at_is_made_here(work: Work, state):
    def during(name: str) -> None:
        work.server.run("train@ridge").state = state

    work.during = during
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert work.made[1:3] == [("train@ridge", "checkpoints"), ("train@ridge", "here")]


def test_what_was_made_of_other_inputs_is_made_here(work: Work, capsys):
    work.bad = {"train@ridge"}

    def during(name: str) -> None:
        work.server.run("train@ridge").state = Completed(name="Ran")
        if name == "train@ridge":
            work.bad = set()

    work.during = during
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert ("train@ridge", "there") in work.made and ("train@ridge", "here") in work.made
    assert "train@ridge was not made by another worker (Failed: of other inputs)" in capsys.readouterr().out


@pytest.mark.parametrize("state", [Running(), Pending()])
def test_a_silent_worker_is_lost(work: Work, monkeypatch, state):
    monkeypatch.setattr(asking, "SILENT", 0.2)

    def during(name: str) -> None:
        if name == NAMES[0]:
            work.server.run("train@ridge").state = state

    work.during = during
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert work.made[-1] == ("train@ridge", "here") and work.server.run("train@ridge").state.is_crashed()


def test_who_begins_after_a_long_wait_is_not_silent(work: Work, monkeypatch):
    """Events are written some seconds after the state."""
    monkeypatch.setattr(asking, "SILENT", 0.3)

    def during(name: str) -> None:
        if name == NAMES[0]:
            time.sleep(0.5)
            for each in work.server.runs.values():
                each.state = Running()
            time.sleep(0.1)
            for each in work.server.runs.values():
                each.state = Completed(name="Ran")

    work.during = during
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert work.made[1:] == [("train@ridge", "there"), ("train@maml", "there")] and len(work.server.runs) == 2


def test_a_run_that_somebody_has_deleted_is_made_here(work: Work):
    work.during = lambda name: work.server.runs.clear()
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert sorted(name for name, where in work.made if where == "here") == sorted(NAMES)


def test_who_begins_while_this_worker_looks_is_waited_for(work: Work, monkeypatch):
    found = Team.state

    def state(team, asked):
        seen = found(team, asked)
        run = work.server.read_flow_run(asked.run)
        if seen is not None and seen.is_scheduled():
            run.state = Completed(name="Ran")  # it began, and has ended, after the look
        return seen

    monkeypatch.setattr(Team, "state", state)
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert work.made[1:] == [("train@ridge", "there"), ("train@maml", "there")]


def test_while_this_worker_is_busy_another_is_asked_in_the_place_of_a_lost_one(work: Work):
    def during(name: str) -> None:
        work.server.run("train@ridge").state = Crashed(message="its worker is lost")
        end = time.monotonic() + 30
        while len(work.server.runs) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        work.server.run("train@ridge", 1).state = Completed(name="Ran")
        work.server.run("train@maml").state = Completed(name="Ran")

    work.during = during
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert work.made == [("train@protonet", "here"), ("train@ridge", "there"), ("train@maml", "there")]


def test_who_takes_the_retraining_over_asks_for_nothing_twice(work: Work):
    """The run that another worker had asked for is at work still, or has ended."""
    for name, state in (("train@ridge", Completed(name="Ran")), ("train@maml", Completed(name="Skipped"))):
        asked_before(work, name).state = state
    work.run()
    assert work.made == [("train@protonet", "here"), ("train@ridge", "there"), ("train@maml", "here")]
    assert len(work.server.runs) == 3


def asked_before(work: Work, name: str, deployment: UUID = DEPLOYMENT) -> SimpleNamespace:
    wanted = {"training": "a" * 40, "name": name}
    return work.server.create_flow_run_from_deployment(deployment, wanted, f"{deployment} {'a' * 40} {name} 0")


def test_what_was_given_to_the_same_training_of_an_earlier_time_is_made_again(work: Work):
    """Once that had ended, its stages were cleared away; its runs are there still."""
    asked_before(work, "train@ridge").state = Completed(name="Ran")
    work.cleared = {"train@ridge"}

    def during(name: str) -> None:
        work.server.run("train@ridge", 1).state = Completed(name="Ran")

    work.during = during
    work.run()
    assert work.made == [("train@protonet", "here"), ("train@ridge", "there"), ("train@maml", "here")]


def test_what_another_deployment_s_workers_have_made_is_not_theirs(work: Work):
    """As of a clone of the project that another team has, with the same data."""
    asked_before(work, "train@ridge", uuid4()).state = Completed(name="Ran")
    work.run()
    assert work.made == [("train@protonet", "here"), ("train@maml", "here"), ("train@ridge", "here")]


def test_after_so_many_failures_nobody_is_asked(work: Work):
    refused = Server()

    def failing(deployment: UUID, parameters: dict, idempotency_key: str):
        made = Server.create_flow_run_from_deployment(refused, deployment, parameters, idempotency_key)
        made.state = Failed(message="no")
        return made

    work.server.create_flow_run_from_deployment = failing
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert len(refused.runs) == 2 * asking.TRIES and {where for _, where in work.made} == {"here"}


def test_after_a_failure_here_no_more_are_begun(work: Work):
    work.bad = {NAMES[0]}
    assert work.run() == {NAMES[0]: "Failed"} and work.made == [(NAMES[0], "here")]
    assert {each.state.name for each in work.server.runs.values()} == {"Skipped"}


def test_where_the_state_cannot_be_offered_one_worker_makes_all(work: Work, monkeypatch, capsys):
    def refuses(*_) -> None:
        raise MetaloomError("the remote refuses")

    monkeypatch.setattr(matrices.elsewhere, "offer", refuses)
    work.run()
    assert work.made == [(name, "here") for name in NAMES] and not work.server.runs
    assert "no other worker helps: the remote refuses" in capsys.readouterr().out


def test_while_the_server_is_away_this_worker_makes_them_in_the_end(work: Work, monkeypatch):
    monkeypatch.setattr(asking, "SILENT", 0.2)

    def during(name: str) -> None:
        work.server.away = True

    work.during = during
    assert work.run() == dict.fromkeys(NAMES, "Ran")
    assert {name for name, where in work.made if where == "here"} == set(NAMES)


def test_outside_of_a_deployment_nobody_is_asked(tmp_path: Path):
    assert team_of(tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("kind", "online", "asked"),
    [("process", 1, False), ("process", 2, True), ("docker", 1, False), ("docker", 2, True), ("kubernetes", 0, True)],
)
def test_a_worker_that_is_alone_asks_nobody(work: Work, monkeypatch, tmp_path: Path, kind, online, asked):
    """In a cluster each stage has a job of its own."""
    server = work.server
    server.read_deployment = lambda _: SimpleNamespace(name="retrain-workers")
    second = SimpleNamespace(id=DEPLOYMENT, paused=False, work_pool_name="pool")
    server.read_deployment_by_name = {"stage/retrain-workers-stages": second}.__getitem__
    there = [WorkerStatus.ONLINE] * online + [WorkerStatus.OFFLINE] * 2
    server.read_workers_for_work_pool = lambda _: [SimpleNamespace(status=status) for status in there]
    server.read_work_pool = lambda _: SimpleNamespace(type=kind)
    monkeypatch.setattr(asking, "this_run", lambda: SimpleNamespace(deployment_id=uuid4()))
    monkeypatch.setattr(asking, "handover", lambda _: 10.0)
    assert team_of(tmp_path, tmp_path) == (Team(tmp_path, tmp_path, DEPLOYMENT) if asked else None)
