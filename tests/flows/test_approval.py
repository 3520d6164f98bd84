"""Approval through a real Prefect server: the run is suspended, other runs go on, and the answer is acted upon."""

from __future__ import annotations

import time

import pytest
from serving import final_state
from standins import PATIENCE

from metaloom.retraining.nights import nights

MAKES_A_CANDIDATE = """

import time as _time
from metaloom.retraining.loop import Result as _Result
from metaloom.retraining.nights import Night as _Night

def _made(root, *_, **__):
    found = _Night("2026-11-28-a", "k", "c", "d", _time.time(), outcome="candidate", reason="v0.0.2 is candidate")
    found.version, found.champion, found.ended = "v0.0.2", "v0.0.1", _time.time()
    found.save(root)
    return _Result("Completed", found.reason, found)

loop.retrain = _made
"""


def resumed(client, run, **answer):
    """What the server says to an answer, as soon as it knows the form, which comes just after the state."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        said = client.resume_flow_run(run, run_input=answer)
        if said.status.name == "ACCEPT" or "schema not found" not in said.details.reason:
            return said
        time.sleep(0.2)
    raise TimeoutError(said)


@pytest.mark.slow
def test_the_run_waits_without_a_process(served, client, serve):
    with (served.root / "flows/retrain.py").open("a") as module:
        module.write(MAKES_A_CANDIDATE)
    deployment = serve("--interval", "86400")
    run = client.create_flow_run_from_deployment(deployment).id
    deadline = time.monotonic() + PATIENCE
    while client.read_flow_run(run).state.name != "Suspended" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert list((served.root / ".metaloom/flow-runs").glob("*.json")) == []
    assert "'approve' is a required property" in resumed(client, run).details.reason  # neither yes nor no
    assert resumed(client, run, approve=False, why="its digits").status.name == "ACCEPT"
    state = final_state(client, run)
    assert (state.name, state.message) == ("Completed", "v0.0.2 is not approved (its digits), and v0.0.1 stays prod")
    (night,) = nights(served.root)
    assert (night.outcome, night.notes) == ("held", [])
