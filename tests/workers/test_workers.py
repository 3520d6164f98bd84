"""Workers of Prefect that share a project through git and DVC's remote, and nothing else."""

from __future__ import annotations

from uuid import UUID

import pytest
from working import DEPLOYMENT, Workers, until

from flows.seen import ARRIVED, resource

TAGS = ["handoff#prod#1", "handoff@v0.0.1"]


def trigger(client, count: int = 1) -> list[UUID]:
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    return [client.create_flow_run_from_deployment(deployment).id for _ in range(count)]


def promoted(workers: Workers) -> bool:
    """Whether the one branch is the version in prod, in the bare repository."""
    (branch,) = workers.git("for-each-ref", "--format=%(objectname)", "refs/heads/retrain").split()
    return workers.git("tag").split() == TAGS and workers.git("rev-parse", f"{TAGS[1]}^{{commit}}") == branch


@pytest.mark.slow
def test_of_twenty_triggers_one_works(workers: Workers, client):
    workers.work("a"), workers.work("b")
    names = sorted(workers.outcome(client, run) for run in trigger(client, 20))
    assert names == ["Completed", *["Skipped"] * 19]
    assert [name for name, *_ in workers.steps()] == ["prepared.txt", "model.txt"]
    assert promoted(workers)


@pytest.mark.slow
def test_data_that_arrived_start_a_run(workers: Workers, client):
    """Of this project, and not of another one on the same server."""
    for whose in ("another", "retrain"):
        workers.run("prefect", "event", "emit", ARRIVED, "--resource-id", resource(whose))
    deployment = client.read_deployment_by_name(DEPLOYMENT).id
    (run,) = until(lambda: [each for each in client.read_flow_runs() if asked_for(each, deployment)])
    workers.work("a")
    assert workers.outcome(client, run.id) == "Completed" and promoted(workers)
    assert len([each for each in client.read_flow_runs() if asked_for(each, deployment)]) == 1


def asked_for(run, deployment: UUID) -> bool:
    return run.deployment_id == deployment and not run.auto_scheduled


@pytest.mark.slow
def test_another_worker_goes_on_from_a_lost_one_s_checkpoint_while_postgres_is_killed(workers: Workers, client):
    (workers.home / "slow").touch()
    lost = workers.work("a")
    (run,) = trigger(client)
    store = workers.home / "store/metaloom/half"
    until(lambda: list(store.glob("*/train.safetensors")) and workers.git("for-each-ref", "refs/metaloom/half"))
    workers.kill(lost)
    assert workers.outcome(client, run) == "Crashed"
    workers.work("b")
    until(lambda: [worker for *_, worker in workers.steps()][-1] == "b")
    (*before, (name, began, _)) = workers.steps()
    assert [name for name, *_ in before] == ["prepared.txt", "model.txt"] and name == "model.txt" and began > 0

    workers.postgres.kill()
    (workers.home / "slow").unlink()
    workers.postgres.start()
    assert until(lambda: workers.ended(client, but=run)) == ["Completed"]
    assert promoted(workers) and len(workers.steps()) == 3
    assert workers.git("for-each-ref", "refs/metaloom/half") == "" and not list(store.glob("*/*"))
