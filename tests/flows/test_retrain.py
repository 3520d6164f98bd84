"""The deployment against a real server: through the API, by a schedule, and with nothing to do."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from serving import final_state
from standins import PATIENCE
from working import until

from flows import missed, notes
from metaloom.cli.serve import _schedule
from metaloom.errors import MetaloomError
from metaloom.retraining import telling
from metaloom.retraining.nights import nights


def scheduled(client, deployment, count: int):
    """The states of the first `count` runs of the schedule that ended, oldest first."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        runs = client.read_flow_runs(deployment_filter=of, sort=FlowRunSort.ID_DESC, limit=200)
        done = [run for run in runs if run.auto_scheduled and run.state and run.state.is_final()]
        if len(done) >= count:
            return [run.state for run in sorted(done, key=lambda run: run.start_time)][:count]
        time.sleep(0.2)
    raise TimeoutError([run.state for run in runs])


@pytest.mark.slow
def test_asked_for_through_the_api(served, client, serve):
    deployment = serve("--interval", "86400")
    ask = client.create_flow_run_from_deployment
    state = final_state(client, ask(deployment).id)
    assert (state.name, state.message) == ("Completed", served_once(served))
    assert served.steps() == ["prepare.txt", "protonet.txt", "maml.txt"]

    state = final_state(client, ask(deployment).id)
    assert state.name == "Skipped" and "nothing is new: data/ is version" in state.message

    (served.root / "data/bad").touch()
    state = final_state(client, ask(deployment).id)
    assert state.name == "Failed" and "data/bad is bad: remove it" in state.message
    assert_it_says_only_when(client, deployment)


def served_once(served) -> str:
    """What the one retraining says that there was: the stand-in has no bundle."""
    (night,) = nights(served.root)
    return f"{night.branch} is trained; dvc.yaml has no bundle, so there is nothing to promote"


def assert_it_says_only_when(client, deployment):
    """Parameters can name no other project, and nothing that is no number."""
    from prefect.exceptions import PrefectHTTPStatusError

    served = client.read_deployment(deployment)
    assert served.enforce_parameter_schema
    assert set(served.parameter_openapi_schema["properties"]) == {"wait", "settle", "force", "dry_run", "changed"}
    for parameters in (
        {"wait": "forever"},
        {"wait": -1},
        {"wait": 1e9},
        {"settle": -1},
        {"force": "/"},
        {"dry_run": {}},
        {"changed": {"export.key": "/home/somebody/key.pem"}},
        {"changed": {"../params": 1}},
        {"changed": {"protonet.steps": [1]}},
    ):
        with pytest.raises(PrefectHTTPStatusError, match="409"):
            client.create_flow_run_from_deployment(deployment, parameters=parameters)


@pytest.mark.parametrize(
    ("changed", "legal"),
    [
        ({"protonet.steps": 7, "maml.head": "zero", "train.max_seconds": None}, True),
        ({"export.key": "/home/somebody/key.pem"}, False),
        ({"../params": 1}, False),
        ({"protonet.steps": [1]}, False),
        ({"protonet.steps": {"a": 1}}, False),
        ({"x": "rm -rf"}, False),
    ],
)
def test_settings_that_the_server_takes(changed, legal):
    """The server knows the schema alone; what is a setting is asked where it runs."""
    from prefect.utilities.schema_tools.validation import ValidationError, validate

    from flows.retrain import retrain

    with nullcontext() if legal else pytest.raises(ValidationError):
        validate({"changed": changed}, retrain.parameters.model_dump(), raise_on_error=True)


@pytest.mark.slow
def test_by_a_schedule_of_seconds(served, client, serve):
    deployment = serve("--interval", "3")
    names = [each.name for each in scheduled(client, deployment, 4)]  # of missed times all but one are skipped
    assert sorted(names) == ["Completed", "Skipped", "Skipped", "Skipped"]
    assert served.steps() == ["prepare.txt", "protonet.txt", "maml.txt"]


@pytest.fixture
def retrain(served):
    from flows import retrain as module

    return module


def commit(served) -> None:
    served.git("add", "-A", ".")
    served.git("commit", "-qm", "by hand")


@pytest.mark.slow
def test_what_was_run_and_committed_by_hand_is_skipped(served, retrain):
    served.dvc("add", "-q", "data")
    served.dvc("repro", "-q")
    commit(served)
    served.steps()
    state = retrain.retrain(settle=0, return_state=True)
    assert state.name == "Skipped" and "everything is up to date with data/" in state.message and served.steps() == []


@pytest.mark.slow
def test_what_was_run_with_other_settings_and_committed_is_due(served, retrain):
    """The models that dvc.lock then names are none of params.yaml."""
    assert served.command("run", "--set", "train.n_shot=5").returncode == 0
    commit(served)
    served.steps()
    assert retrain.retrain(settle=0, return_state=True).is_completed()
    assert served.steps() == ["protonet.txt", "maml.txt"]


@pytest.mark.parametrize(
    "changed", [pytest.param(each, marks=pytest.mark.slow) for each in ("code", "settings", "nothing, but forced")]
)
def test_committed_settings_and_code_are_due(served, retrain, changed):
    assert retrain.retrain(settle=0, return_state=True).name == "Completed"
    served.steps()
    if changed == "settings":
        text = (served.root / "params.yaml").read_text()
        (served.root / "params.yaml").write_text(text.replace("max_bad_share: 0.05", "max_bad_share: 0.06"))
    if changed == "code":
        with (served.root / "step.py").open("a") as file:
            file.write("# other code\n")
    if not changed.startswith("nothing"):
        commit(served)
    state = retrain.retrain(settle=0, force=changed.startswith("nothing"), return_state=True)
    assert "prepare.txt" in served.steps() and state.is_completed()
    assert retrain.retrain(settle=0, return_state=True).name == "Skipped"


def test_a_failed_run_is_no_success(served, retrain):
    (served.root / "data/bad").touch()
    assert retrain.retrain(settle=0, return_state=True).is_failed()
    state = retrain.retrain(settle=0, return_state=True)  # not skipped, though nothing has changed
    assert state.is_failed() and "data/bad is bad: remove it" in state.message
    assert served.git("status", "--porcelain") == ""


def test_a_run_that_does_not_come_to_its_retraining_is_told_once(served, retrain, monkeypatch):
    told = []
    monkeypatch.setattr(telling, "send", lambda notify, title, message: told.append(message["message"]))

    def refused():
        raise MetaloomError("3 runs crashed within a day")

    monkeypatch.setattr(retrain, "refuse_after_crashes", refused)
    for _ in range(2):
        assert retrain.retrain(settle=0, return_state=True).is_failed()
    assert told == ["retraining failed: 3 runs crashed within a day"]


def test_missed_times_are_one_run(monkeypatch):
    """Five late runs of the schedule: the one that starts ends the others, and neither itself, nor one by hand, nor one
    that was suspended and is resumed."""
    ended = []

    class Client:
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def read_flow_runs(self, flow_run_filter):
            assert flow_run_filter.expected_start_time.before_ is not None
            plain, resumed = (SimpleNamespace(resuming=each) for each in (False, True))
            late = [SimpleNamespace(id=number, auto_scheduled=True, empirical_policy=plain) for number in range(5)]
            by_hand = SimpleNamespace(id=9, auto_scheduled=False, empirical_policy=plain)
            return [*late, by_hand, SimpleNamespace(id=10, auto_scheduled=True, empirical_policy=resumed)]

        def set_flow_run_state(self, run, state, force):
            ended.append((run, state.name, state.message))

    run = SimpleNamespace(id=2, name="first", deployment_id=uuid4(), work_pool_name=None)
    monkeypatch.setattr(missed, "get_client", lambda sync_client: Client())
    monkeypatch.setattr(notes.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=run))
    assert missed.skip_missed() == 4
    assert ended == [(number, "Skipped", "missed; first is for this time too") for number in (0, 1, 3, 4)]
    run.deployment_id = None  # asked for by hand, with no deployment
    assert missed.skip_missed() == 0


class Triggered:
    """A server with triggers by hand, and with so many runs that crashed."""

    def __init__(self, *others: SimpleNamespace) -> None:
        self.others, self.ended = others, []

    __enter__ = lambda self: self  # noqa: E731
    __exit__ = lambda *_: None  # noqa: E731

    def read_flow_runs(self, flow_run_filter):
        return list(self.others)

    def set_flow_run_state(self, run, state, force):
        self.ended.append((run, state.name))


def at_work(monkeypatch, server: Triggered, **about) -> None:
    asked = {"work_pool_name": "pool", "parameters": {"force": False}, "deployment_id": uuid4(), "created_by": None}
    run = SimpleNamespace(id=0, name="first", **asked | about)
    monkeypatch.setattr(missed, "get_client", lambda sync_client: server)
    monkeypatch.setattr(notes.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=run))


def test_triggers_that_wait_for_workers_and_ask_for_the_same_are_one_run(monkeypatch):
    others = [
        SimpleNamespace(
            id=number,
            auto_scheduled=False,
            parameters={"force": forced},
            empirical_policy=SimpleNamespace(resuming=False),
        )
        for number, forced in enumerate([False, False, True, False])
    ]
    server = Triggered(*others)
    at_work(monkeypatch, server)
    assert missed.skip_missed() == 2 and server.ended == [(1, "Skipped"), (3, "Skipped")]
    at_work(monkeypatch, server, work_pool_name=None)  # of `metaloom serve`
    assert missed.skip_missed() == 0


def test_what_crashes_again_and_again_is_not_begun_for_ever(monkeypatch):
    by_itself = SimpleNamespace(type="AUTOMATION")
    at_work(monkeypatch, Triggered(*range(2)), created_by=by_itself)
    missed.refuse_after_crashes()
    at_work(monkeypatch, Triggered(*range(3)))
    missed.refuse_after_crashes()
    at_work(monkeypatch, Triggered(*range(3)), created_by=by_itself)
    with pytest.raises(MetaloomError, match="3 runs crashed within a day"):
        missed.refuse_after_crashes()


@pytest.mark.slow
def test_the_schedule_stays_on_after_serve_has_ended(served, client, serve):
    deployment = serve("--interval", "86400")
    served.started[-1].terminate()
    served.started[-1].communicate(timeout=PATIENCE)
    found = client.read_deployment(deployment)
    assert not found.paused and found.schedules[0].active


@pytest.mark.slow
def test_another_schedule_takes_the_runs_of_the_old_one_away(served, client, serve):
    deployment = serve("--interval", "7200")
    assert {each.hour for each in until(lambda: times_to_come(client, deployment))} != {3}
    served.started[-1].terminate()
    served.started[-1].communicate(timeout=PATIENCE)
    assert serve("--cron", "30 3 * * *", "--timezone", "Europe/Paris") == deployment
    until(lambda: {(each.hour, each.minute) for each in times_to_come(client, deployment)} == {(3, 30)})


def times_to_come(client, deployment) -> list[datetime]:
    """Of the runs that the schedule has made, in Paris."""
    of = {"deployments": {"id": {"any_": [str(deployment)]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    found = client.request("POST", "/flow_runs/filter", json=of).json()
    times = (datetime.fromisoformat(each["expected_start_time"]) for each in found if each["auto_scheduled"])
    return [each.astimezone(ZoneInfo("Europe/Paris")) for each in times]


@pytest.mark.parametrize(
    ("line", "changes", "hours"),
    [
        ("0 3 * * *", datetime(2026, 3, 28, tzinfo=UTC), [2, 1, 1]),  # summer time begins on the 29th
        ("0 3 * * *", datetime(2026, 10, 24, tzinfo=UTC), [1, 2, 2]),  # and ends on the 25th of October
        ("30 2 * * *", datetime(2026, 3, 28, tzinfo=UTC), [1, 1, 0]),  # the 29th has no half past two: an hour later
        ("30 2 * * *", datetime(2026, 10, 24, tzinfo=UTC), [0, 0, 1]),  # the 25th has two: the first
    ],
)
def test_it_is_the_same_time_of_day_in_summer_and_winter(tmp_path, line, changes, hours):
    """The schedule as the server reads it, three nights around a change: hours in UTC."""
    from prefect.server.schemas.schedules import CronSchedule

    schedule = CronSchedule(**_schedule(tmp_path, line, "Europe/Paris", None)["schedule"].model_dump())
    found = asyncio.run(schedule.get_dates(3, start=changes))
    assert [each.astimezone(UTC).hour for each in found] == hours
    assert [each.astimezone(UTC).day - changes.day for each in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cron", "every night"], "five fields, for example '0 3 * * *'"),
        (["--cron", "0 3 * * *", "--interval", "5"], "--cron or --interval, not both"),
        (["--cron", "0 3 * * *", "--timezone", "Mars"], "'Mars' is no time zone: write its name, for example Europe"),
        (["--timezone", "Europe/Paris"], "--timezone is of --cron: give both"),
    ],
)
def test_a_bad_schedule_is_refused(served, arguments, message):
    done = served.command("serve", *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_of_two_triggers_at_the_same_moment_one_runs_and_one_waits(served, client, serve):
    """On SQLite the server may answer 503 to one of them, which Prefect's client asks again."""
    from prefect.client.orchestration import get_client

    deployment = serve("--interval", "86400")

    def trigger(_: int) -> UUID:
        with get_client(sync_client=True) as another:
            return another.create_flow_run_from_deployment(deployment).id

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(trigger, range(2)))
    states = [final_state(client, run) for run in runs]
    assert sorted(state.name for state in states) == ["Completed", "Skipped"]
    assert served.steps() == ["prepare.txt", "protonet.txt", "maml.txt"]
