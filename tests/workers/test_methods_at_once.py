"""The methods of a matrix, which three workers train at the same time; one of them is killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3 import BUCKET, Moto
from working import DEPLOYMENT, METHODS, METHODS_DAG, METHODS_STEP, Workers, at_work, client_of, until

STAGES = "stage/retrain-workers-stages"


@pytest.fixture
def team(tmp_path: Path, moto: Moto) -> Iterator[Workers]:
    """A project in a bare repository and S3, with both deployments; nobody works on it yet."""
    key, secret = moto.users["owner"]
    credentials = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
    remote = {"url": f"s3://{BUCKET}/{tmp_path.name}", "endpointurl": f"http://127.0.0.1:{moto.port}"}
    deployed = ["retrain-workers", "retrain-workers-stages"]
    methods = {"dag": METHODS_DAG, "step": METHODS_STEP}
    with at_work(tmp_path, deployed, credentials=credentials, remote=remote, **methods) as made:
        yield made


@pytest.fixture
def client(team: Workers):
    with client_of(team, DEPLOYMENT, STAGES) as client:
        yield client


def slow(team: Workers, *methods: str) -> None:
    for method in METHODS:
        (team.home / f"slow-{method}.txt").unlink(missing_ok=True)
    for method in methods:
        (team.home / f"slow-{method}.txt").touch()


def all_online(client, count: int) -> bool:
    workers = client.read_workers_for_work_pool("metaloom-workers")
    return sum(each.status == "ONLINE" for each in workers) >= count


def lock(team: Workers) -> str:
    (branch,) = team.git("for-each-ref", "--format=%(refname)", "refs/heads/retrain").split()
    return team.git("show", f"{branch}:dvc.lock")


def begun(team: Workers) -> dict[str, str]:
    """Who has begun which stage last."""
    return {name.removesuffix(".txt"): worker for name, _, worker in team.steps()}


def trigger(client):
    return client.create_flow_run_from_deployment(client.read_deployment_by_name(DEPLOYMENT).id).id


def made_alone(team: Workers) -> str:
    """dvc.lock, as `dvc repro` makes it in the checkout."""
    team.run("dvc", "repro", "-q")
    return (team.here / "dvc.lock").read_text()


@pytest.mark.slow
def test_another_goes_on_with_the_stage_of_a_worker_that_is_killed(team: Workers, client):
    """The first is at its own stage all the while; what comes out is what one worker makes, to the last byte."""
    processes, run = all_at_work(team, client)
    first = begun(team)["prepared"]
    lost = next(method for method in METHODS if begun(team)[method] != first)
    third = next(method for method in METHODS if begun(team)[method] not in (first, begun(team)[lost]))
    until(lambda: sent(team, lost))
    team.kill(processes[begun(team)[lost]])
    (team.home / f"slow-{third}.txt").unlink()
    went_on = until(lambda: [who for name, began, who in team.steps() if name == f"{lost}.txt" and began > 0])
    assert went_on == [begun(team)[third]]
    slow(team)
    assert team.outcome(client, run) == "Completed"
    assert len(team.steps()) == 5 and lock(team).strip() == made_alone(team).strip()
    assert team.git("for-each-ref", "refs/metaloom/half", "refs/metaloom/stages") == ""


@pytest.mark.sweep
def test_stages_go_on_while_the_worker_that_has_the_retraining_is_killed(team: Workers, client):
    """Who takes the retraining over takes what others have made of it, or make still."""
    processes, run = all_at_work(team, client)
    first = begun(team)["prepared"]
    (own,) = (method for method in METHODS if begun(team)[method] == first)
    done, still = (method for method in METHODS if method != own)
    until(lambda: sent(team, own))
    team.kill(processes[first])
    assert team.outcome(client, run) == "Crashed"
    (team.home / f"slow-{done}.txt").unlink()
    went_on = until(lambda: [who for name, began, who in team.steps() if name == f"{own}.txt" and began > 0])
    assert went_on == [begun(team)[done]]
    slow(team)
    assert until(lambda: team.ended(client, but=run)) == ["Completed"]
    assert len(team.steps()) == 5 and [name for name, *_ in team.steps()].count(f"{still}.txt") == 1
    assert lock(team).strip() == made_alone(team).strip()


def all_at_work(team: Workers, client):
    """Three workers, each at a stage that does not end, and the run of the retraining."""
    slow(team, *METHODS)
    processes = {name: team.work(name) for name in "abc"}
    until(lambda: all_online(client, 3))
    run = trigger(client)
    until(lambda: len({begun(team).get(method) for method in METHODS} - {None}) == 3)
    return processes, run


def sent(team: Workers, method: str) -> bool:
    """Whether a checkpoint of the method is in DVC's remote."""
    code = "import dvc.repo; fs = dvc.repo.Repo().cloud.get_remote(); print(*fs.fs.find(fs.path))"
    return f"/{method}.safetensors" in team.run(sys.executable, "-c", code)
