"""Cancelled, suspended and resumed in the middle of training, through a real Prefect server."""

from __future__ import annotations

import time

import pytest
from serving import final_state
from standins import PATIENCE

from metaloom.retraining.nights import FOLDER
from metaloom.system.lock import project_lock

NOTICED = 10  # seconds until a run knows that it is to be suspended
STEPS = ["prepare.txt", "protonet.txt", "maml.txt"]


@pytest.fixture
def training(served, client, serve):
    """The deployment, a run of it that stays in its third stage, and that stage's process."""
    (served.root / "slow").touch()
    deployment = serve("--interval", "86400")
    run = client.create_flow_run_from_deployment(deployment).id
    return deployment, run, served.wait_for("maml.txt")


def notes(served) -> list:
    return list((served.root / ".metaloom/flow-runs").glob("*.json"))


@pytest.mark.slow
def test_cancelled(served, client, training):
    from prefect.states import Cancelling

    deployment, run, stage = training
    client.set_flow_run_state(run, Cancelling())
    assert final_state(client, run).name == "Cancelled" and served.ended(stage)
    with project_lock(served.root / FOLDER):
        (served.root / "slow").unlink()
    served.steps()
    assert final_state(client, client.create_flow_run_from_deployment(deployment).id).name == "Completed"
    assert served.steps() == ["maml.txt"]


@pytest.mark.slow
def test_suspended_and_resumed(served, client, training):
    """It ends after the stage that is at work, and goes on with the next."""
    from prefect.flow_runs import suspend_flow_run

    _, run, _ = training
    suspend_flow_run(flow_run_id=run)
    time.sleep(NOTICED)
    (served.root / "slow").unlink()
    deadline = time.monotonic() + PATIENCE
    while notes(served) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert client.read_flow_run(run).state.name == "Suspended" and served.steps() == STEPS
    with project_lock(served.root / FOLDER):
        pass
    client.resume_flow_run(run)
    assert final_state(client, run).name == "Completed" and served.steps() == []
