"""The deployment against a real server: through the API, by a schedule, and with nothing to do."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from serving import final_state
from standins import PATIENCE

from metaloom.pipeline.stages import reproduce
from metaloom.versioning.data import version_dataset


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
    assert (state.name, state.message) == ("Completed", "all stages are up to date")
    assert served.steps() == ["prepare.txt", "protonet.txt", "maml.txt"]

    state = final_state(client, ask(deployment).id)
    assert state.name == "Skipped" and "everything is up to date with data/" in state.message

    (served.root / "data/bad").touch()
    state = final_state(client, ask(deployment).id)
    assert state.name == "Failed" and "data/bad is bad: remove it" in state.message
    assert_it_says_only_when(client, deployment)


def assert_it_says_only_when(client, deployment):
    """Parameters can name no other project, and nothing that is no number."""
    from prefect.exceptions import PrefectHTTPStatusError

    served = client.read_deployment(deployment)
    assert served.enforce_parameter_schema
    assert set(served.parameter_openapi_schema["properties"]) == {"stale_minutes", "wait", "settle", "force"}
    for parameters in (
        {"wait": "forever"},
        {"wait": -1},
        {"wait": 1e9},
        {"settle": -1},
        {"force": "/"},
        {"stale_minutes": {}},
    ):
        with pytest.raises(PrefectHTTPStatusError, match="409"):
            client.create_flow_run_from_deployment(deployment, parameters=parameters)


@pytest.mark.slow
def test_by_a_schedule_of_seconds(served, client, serve):
    deployment = serve("--interval", "3")
    first, second = scheduled(client, deployment, 2)
    assert (first.name, second.name) == ("Completed", "Skipped")
    assert served.steps() == ["prepare.txt", "protonet.txt", "maml.txt"]


@pytest.fixture
def retrain(served):
    from flows import retrain as module

    return module


def test_current_after_dvc_repro_is_skipped(served, retrain):
    served.dvc("add", "-q", "data")
    served.dvc("repro", "-q")
    assert retrain.retrain(settle=0, return_state=True).name == "Skipped"


@pytest.mark.parametrize(
    "changed", [pytest.param(each, marks=pytest.mark.slow) for each in ("code", "settings", "nothing, but forced")]
)
def test_changed_settings_and_code_are_due(served, retrain, changed):
    assert retrain.retrain(settle=0, return_state=True).name == "Completed"
    served.steps()
    if changed == "settings":
        text = (served.root / "params.yaml").read_text()
        (served.root / "params.yaml").write_text(text.replace("max_bad_share: 0.05", "max_bad_share: 0.06"))
    if changed == "code":
        with (served.root / "step.py").open("a") as file:
            file.write("# other code\n")
    state = retrain.retrain(settle=0, force=changed.startswith("nothing"), return_state=True)
    assert state.name == "Completed" and "prepare.txt" in served.steps()
    assert retrain.retrain(settle=0, return_state=True).name == "Skipped"


@pytest.mark.slow
def test_data_that_are_put_back_after_a_killed_run_are_due(served, retrain):
    """The workspace holds another version's model then."""
    assert retrain.retrain(settle=0, return_state=True).name == "Completed"
    pointer, trained = (served.root / "data.dvc").read_text(), (served.root / "protonet.txt").read_text()
    (served.root / "data/b").write_text("2\n")
    version_dataset(served.root)
    for name in ("prepare", "train@protonet"):
        reproduce(served.root, name)
    (served.root / "data/b").unlink()
    (served.root / "data.dvc").write_text(pointer)
    assert retrain.retrain(settle=0, return_state=True).name == "Completed"
    assert (served.root / "protonet.txt").read_text() == trained


def test_a_failed_run_is_no_success(served, retrain):
    (served.root / "data/bad").touch()
    assert retrain.retrain(settle=0, return_state=True).is_failed()
    assert retrain.retrain(settle=0, return_state=True).is_failed()  # not skipped, though data.dvc did not change


@pytest.mark.slow
def test_a_run_with_settings_of_its_own_is_no_success(served, retrain):
    assert retrain.pipeline(overrides={"train.n_shot": 5}, return_state=True).is_completed()
    state = retrain.retrain(settle=0, return_state=True)
    assert (state.name, state.message) == ("Completed", "all stages are up to date")


def test_a_run_that_starts_long_after_its_time_is_skipped(served, retrain, monkeypatch):
    monkeypatch.setattr(retrain, "_minutes_late", lambda: 61.0)
    state = retrain.retrain(settle=0, return_state=True)
    assert state.name == "Skipped" and "61 minutes ago, more than 60" in state.message
    assert served.steps() == []


def test_only_the_schedules_own_runs_can_be_late(retrain, monkeypatch):
    class Run:
        expected_start_time = datetime.now(UTC) - timedelta(hours=2)
        auto_scheduled = True

    class Context:
        flow_run = Run

    monkeypatch.setattr(retrain.FlowRunContext, "get", lambda: Context)
    assert retrain._minutes_late() == pytest.approx(120, abs=1)
    Run.auto_scheduled = False
    assert retrain._minutes_late() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cron", "every night"], "five fields, for example '0 3 * * *'"),
        (["--cron", "0 3 * * *", "--interval", "5"], "--cron or --interval, not both"),
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
