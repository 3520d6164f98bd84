"""The flow against a real server: what its tasks say, in which order, and what it does when one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from uuid import UUID

import pytest
import yaml

from metaloom.system.lock import project_lock

TASKS = ["version_dataset", "prepare", "train@protonet", "train@maml", "join"]


@pytest.fixture
def pipeline(served):
    """The flow, called in the project; gives its final state, and its tasks' (name → state) of the server."""
    from flows import pipeline as module

    def call(count=5, **parameters):
        state = module.pipeline(str(served.root), return_state=True, **parameters)
        return state, tasks_of(state.state_details.flow_run_id, count)

    return call


def tasks_of(flow_run: UUID, count: int):
    """The task runs in the order in which they started; the server records them a little later than they end."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    ours = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            runs = client.read_task_runs(flow_run_filter=ours, sort=TaskRunSort.ID_DESC, limit=200)
            if len(runs) >= count and all(run.state and run.state.is_final() for run in runs):
                break
            time.sleep(0.2)
    return {run.name: run.state for run in sorted(runs, key=lambda run: run.start_time)}


def names(tasks) -> dict[str, str]:
    return {task: state.name for task, state in tasks.items()}


def logged(flow_run: UUID, text: str) -> bool:
    """Whether the run's logs on the server have the text; they are sent every few seconds."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    of = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if any(text in log.message for log in client.read_logs(of, 200, 0)):
                return True
            time.sleep(0.2)
    return False


@pytest.mark.slow
def test_what_follows_a_stage_that_was_restored_is_asked_again(pipeline, served):
    """It was up to date before, with what the restored stage has replaced."""
    texts = []
    for shots in (5, 3, 5):
        assert pipeline(overrides={"train.n_shot": shots})[0].is_completed()
        texts.append((served.root / "join.txt").read_text())
    assert texts[2] == texts[0] != texts[1]


@pytest.mark.slow
def test_where_all_is_up_to_date_dvc_is_asked_once(pipeline, served, monkeypatch):
    from flows import pipeline as module

    pipeline()
    monkeypatch.setattr(module, "is_current", lambda *_: pytest.fail("asked of one stage"))
    assert set(names(pipeline()[1]).values()) == {"Cached"}


@pytest.fixture
def spans(monkeypatch):
    """`spans()`: the names of OpenTelemetry's spans so far."""
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return lambda: [each.name for each in kept.get_finished_spans()]


def test_ran_then_cached(pipeline, served, capfd, spans):
    """And Prefect traces the run and its tasks, as docs/scheduling.md says."""
    state, tasks = pipeline()
    assert state.is_completed()
    assert set(TASKS) < set(spans()) and len(spans()) == len(TASKS) + 1
    assert list(tasks) == TASKS and set(names(tasks).values()) == {"Ran"}
    assert served.steps() == ["prepare.txt", "protonet.txt", "maml.txt"]
    assert logged(state.state_details.flow_run_id, "stepping to maml.txt")
    out, err = capfd.readouterr()
    assert "train@maml\n  stepping to maml.txt\n" in out and err == ""

    state, tasks = pipeline()
    assert list(tasks) == TASKS and set(names(tasks).values()) == {"Cached"}
    assert served.steps() == []
    assert logged(state.state_details.flow_run_id, "everything was cached (4 stages)")
    assert capfd.readouterr().out == ""

    served.dvc("repro", "-q")
    assert served.steps() == []


def test_one_stage_with_what_it_needs(pipeline, served):
    state, tasks = pipeline(count=3, only="train@maml")
    assert names(tasks) == {"version_dataset": "Ran", "prepare": "Ran", "train@maml": "Ran"}
    assert state.message == "train@maml is up to date" and not (served.root / "join.txt").exists()
    state, tasks = pipeline(count=1, only="jon")
    assert state.is_failed() and state.message.startswith("there is no stage 'jon': dvc.yaml has prepare, train, join")
    state, _ = pipeline(count=0, only="prepare", minutes=5)
    assert state.is_failed() and state.message.startswith("--minutes is for a run with the stage plan, and prepare")


@pytest.mark.slow
def test_cached_after_dvc_repro_and_a_new_stage_appears(pipeline, served):
    served.dvc("add", "-q", "data")
    served.dvc("repro", "-q")
    served.steps()
    dag = yaml.safe_load((served.root / "dvc.yaml").read_text())
    dag["stages"]["after"] = {"cmd": "cp join.txt after.txt", "deps": ["join.txt"], "outs": ["after.txt"]}
    (served.root / "dvc.yaml").write_text(yaml.safe_dump(dag))
    _, tasks = pipeline(count=6)
    assert names(tasks) == dict.fromkeys(TASKS, "Cached") | {"after": "Ran"}
    assert served.steps() == []


@pytest.mark.slow
def test_the_artifact_has_the_summary(pipeline, served):
    from prefect.client.orchestration import get_client

    state, _ = pipeline()
    with get_client(sync_client=True) as client:
        (artifact,) = client.request(
            "POST",
            "/artifacts/filter",
            json={"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}},
        ).json()
    assert artifact["type"] == "markdown"
    assert "| train@maml | Ran |" in artifact["data"]


@pytest.mark.slow
def test_overrides_are_of_one_run(pipeline, served):
    pipeline()
    served.steps()
    plain = (served.root / "join.txt").read_text()
    _, tasks = pipeline(overrides={"train.n_shot": 5})
    assert names(tasks) == dict(zip(TASKS, ["Cached", "Cached", "Ran", "Ran", "Ran"], strict=True))
    assert (served.root / "join.txt").read_text() != plain
    served.steps()
    _, tasks = pipeline()
    assert set(names(tasks).values()) == {"Cached"}
    assert "restored" in tasks["train@maml"].message and "up to date" in tasks["prepare"].message
    assert (served.root / "join.txt").read_text() == plain and served.steps() == []


@pytest.mark.slow
def test_a_failing_stage_ends_the_flow(pipeline, served, capfd):
    (served.root / "data/bad").touch()
    state, tasks = pipeline(count=2)
    assert state.is_failed() and state.message == "stage prepare failed: data/bad is bad: remove it"
    assert list(tasks) == TASKS[:2] and tasks["prepare"].message == state.message
    assert served.steps() == ["prepare.txt"]
    assert "Traceback" not in "".join(capfd.readouterr())
    (served.root / "data/bad").unlink()
    state, tasks = pipeline()
    assert state.is_completed()


def test_bad_settings_end_the_flow_before_any_task(pipeline, served):
    state, tasks = pipeline(count=0, overrides={"train.n_shot": -1})
    assert state.is_failed() and "train.n_shot" in state.message
    assert tasks == {} and served.steps() == []


@pytest.mark.slow
def test_locked(pipeline, served):
    pipeline()
    (served.root / "data/b").write_text("by hand")
    state, tasks = pipeline(count=1, locked=True)
    assert state.is_failed() and "without --locked" in state.message
    assert names(tasks) == {"version_dataset": "Failed"}


@pytest.mark.slow
def test_a_lock_of_dvc_is_waited_for(pipeline, served):
    """Held for longer than DVC itself waits (3 s), and shorter than our first retry."""
    import zc.lockfile

    code = "import time, zc.lockfile\nlock = zc.lockfile.LockFile('.dvc/tmp/lock')\nprint(1, flush=True); time.sleep(4)"
    (served.root / ".dvc/tmp").mkdir(exist_ok=True)
    other = subprocess.Popen([sys.executable, "-c", code], cwd=served.root, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline()
        with pytest.raises(zc.lockfile.LockError):
            zc.lockfile.LockFile(str(served.root / ".dvc/tmp/lock"))
        state, tasks = pipeline()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert state.is_completed() and set(names(tasks).values()) == {"Ran"}


def test_another_run_at_work_is_named(pipeline, served):
    code = (
        "import time\nfrom metaloom.system.lock import project_lock\n"
        "with project_lock('.'):\n print(1, flush=True); time.sleep(30)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], cwd=served.root, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline()
        state, tasks = pipeline(count=0)
        assert state.is_failed() and f"process {other.pid} on " in state.message
        assert tasks == {} and served.steps() == []
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with project_lock(served.root):  # a dead holder's lock does not stand in the way
        assert json.loads((served.root / ".metaloom/holder.json").read_text())["pid"] == os.getpid()
