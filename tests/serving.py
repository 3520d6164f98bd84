"""`metaloom serve` in the stand-in project, against a real Prefect server."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
import together
from filelock import FileLock
from standins import PATIENCE


@pytest.fixture(scope="session")
def client(prefect):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def serve(served, client):
    """`metaloom serve ARGUMENTS`, up and known to the server; gives the deployment's id.

    One at a time: the server knows the deployment by its name.
    """
    from prefect.exceptions import ObjectNotFound

    running, made = [], []

    def start(*arguments: str):
        running.append(served.start("serve", "--settle", "0", *arguments))
        began = datetime.now(UTC)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and running[-1].poll() is None:
            try:
                deployment = client.read_deployment_by_name("retrain/retrain")
                if deployment.updated >= began - timedelta(seconds=1):
                    made.append(deployment.id)
                    return deployment.id
            except ObjectNotFound:
                pass
            time.sleep(0.2)
        running[-1].kill()
        raise RuntimeError(running[-1].communicate())

    with FileLock(together.folder() / "serve.lock"):
        yield start
        for process in running:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        for deployment in set(made):
            client.delete_deployment(deployment)  # or the server goes on planning its runs


def final_state(client, flow_run, seconds: float = PATIENCE):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = client.read_flow_run(flow_run).state
        if state is not None and state.is_final():
            return state
        time.sleep(0.2)
    raise TimeoutError(state)
