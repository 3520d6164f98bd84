"""What the server hears: events that end and start retrainings, and the nights as an artifact."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from serving import final_state
from standins import PATIENCE

from flows.seen import ARRIVED, resource


def until(asked):
    """What `asked` gives as soon as that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := asked()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def asked_for(client, deployment) -> list[str]:
    """The deployment's runs that no schedule has made."""
    of = {"deployments": {"id": {"any_": [str(deployment)]}}}
    found = client.request("POST", "/flow_runs/filter", json=of).json()
    return [each["id"] for each in found if not each["auto_scheduled"]]


def ended(client, run) -> list[dict]:
    """The events of how the run's retraining ended."""
    asked = {"filter": {"event": {"prefix": ["metaloom.retraining."]}, "related": {"id": [f"prefect.flow-run.{run}"]}}}
    return client.request("POST", "/events/filter", json=asked).json()["events"]


@pytest.mark.slow
def test_events_start_and_end_a_retraining(served, client, serve):
    deployment = serve("--interval", "86400")
    command = ["event", "emit", ARRIVED, "--resource-id"]
    for whose in ("metaloom.project.another", resource("retrain")):
        subprocess.run([sys.executable, "-m", "prefect", *command, whose], check=True, stdout=subprocess.DEVNULL)
    (run,) = until(lambda: asked_for(client, deployment))
    assert final_state(client, run).name == "Completed"
    (event,) = until(lambda: ended(client, run))
    assert event["event"] == "metaloom.retraining.kept" and event["resource"]["prefect.resource.id"] == resource(
        "retrain"
    )
    assert event["payload"]["branch"].startswith("retrain/")
    again = client.create_flow_run_from_deployment(deployment).id
    assert final_state(client, again).name == "Skipped"
    assert [each["event"] for each in until(lambda: ended(client, again))] == ["metaloom.retraining.nothing-new"]

    artifacts = client.request("POST", "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run]}}}).json()
    (artifact,) = artifacts
    (row,) = json.loads(artifact["data"])
    assert artifact["key"] == "metaloom-history-retrain" and row["became"] == "kept" and "is trained" in row["why"]


@pytest.mark.slow
def test_a_file_drop_starts_a_retraining(served, client, serve):
    deployment = serve("--interval", "86400", "--watch", "1")
    (first,) = until(lambda: asked_for(client, deployment))  # for what came before
    assert final_state(client, first).name == "Completed"
    (served.root / "data/b").write_text("2\n")
    runs = until(lambda: len(found := asked_for(client, deployment)) > 1 and found)
    (second,) = set(runs) - {first}
    assert (
        final_state(client, second).name == "Completed"
        and len(served.git("branch", "--list", "retrain/*").split()) == 2
    )


def test_the_server_has_metrics_for_prometheus(client):
    """As docs/scheduling.md says."""
    found = client.request("GET", "/metrics").text
    assert "\nprocess_resident_memory_bytes " in found and "# TYPE" in found
