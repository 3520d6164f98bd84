"""SIGKILL of `metaloom serve`, of `metaloom run`, of a flow's process: the server of one's own hears of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from uuid import UUID

import psutil
import pytest
from serving import final_state
from standins import PATIENCE

from metaloom.system.files import write_json
from metaloom.system.lock import project_lock

SOON = 60  # seconds after which nothing says any more that it runs


@pytest.fixture
def slow(served):
    """A run that stays in its third stage."""
    (served.root / "slow").touch()
    return served


def family(served) -> list[psutil.Process]:
    """The command that was started last, and what it has started but for the guard."""
    command = psutil.Process(served.started[-1].pid)
    children = command.children(recursive=True)
    return [command, *(each for each in children if "metaloom.cli.guard" not in each.cmdline())]


def guard_of(served) -> psutil.Process:
    children = psutil.Process(served.started[-1].pid).children()
    return next(each for each in children if "metaloom.cli.guard" in each.cmdline())


def kill(*processes: psutil.Process) -> None:
    for each in processes:
        each.kill()


def noted(served) -> list[UUID]:
    return [UUID(path.stem) for path in (served.root / ".metaloom/flow-runs").glob("*.json")]


def assert_free(served) -> None:
    """Whoever comes next need not wait; the note goes when the server has heard."""
    with project_lock(served.root):
        deadline = time.monotonic() + PATIENCE
        while noted(served) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert noted(served) == []


@pytest.mark.slow
def test_serve_and_flow_are_killed(slow, client, serve):
    run = client.create_flow_run_from_deployment(serve("--interval", "86400")).id
    stage = slow.wait_for("maml.txt")
    assert run in noted(slow)
    kill(*(each for each in family(slow) if each.pid != stage))
    state = final_state(client, run, SOON)
    assert (state.name, state.message) == ("Crashed", "its process was killed")
    assert slow.ended(stage)
    assert_free(slow)


@pytest.mark.slow
def test_a_flow_that_is_killed_alone(slow, client, serve):
    """Prefect's runner says so, and the next trigger runs."""
    deployment = serve("--interval", "86400")
    run = client.create_flow_run_from_deployment(deployment).id
    stage = slow.wait_for("maml.txt")
    (flow,) = (each for each in family(slow) if "--multiprocessing-fork" in each.cmdline())
    flow.kill()
    assert final_state(client, run).name == "Crashed"
    assert slow.ended(stage)
    (slow.root / "slow").unlink()
    assert final_state(client, client.create_flow_run_from_deployment(deployment).id).name == "Completed"
    assert_free(slow)


@pytest.mark.slow
def test_serve_that_is_killed_alone_leaves_its_flow_at_work(slow, client, serve):
    run = client.create_flow_run_from_deployment(serve("--interval", "86400")).id
    slow.wait_for("maml.txt")
    guard, (command, *others) = guard_of(slow), family(slow)
    command.kill()
    time.sleep(5)
    assert client.read_flow_run(run).state.name == "Running" and guard.is_running()
    kill(*others)
    assert final_state(client, run).name == "Crashed"


def test_the_guard_of_serve_goes_away_in_the_end(served):
    """It looks for a while, as a run that was taken may have no note yet."""
    quick = "from metaloom.cli import guard; guard.PATIENCE = 1; guard.main(served=True)"
    environment = {**os.environ, **served.environment}
    subprocess.run(
        [sys.executable, "-c", quick],
        cwd=served.root,
        env=environment,
        input="",
        text=True,
        check=True,
        timeout=PATIENCE,
    )


@pytest.mark.slow
def test_a_run_that_is_killed(slow, client):
    slow.start("run")
    stage = slow.wait_for("maml.txt")
    (run,) = noted(slow)
    command, guard = psutil.Process(slow.started[-1].pid), guard_of(slow)
    command.kill()
    assert final_state(client, run).name == "Crashed"
    assert slow.ended(stage) and slow.ended(guard.pid)
    assert_free(slow)


@pytest.mark.slow
def test_where_the_guard_is_killed_too_the_next_run_says_it(slow, client):
    slow.start("run")
    stage = slow.wait_for("maml.txt")
    (run,) = noted(slow)
    kill(guard_of(slow), *family(slow))
    assert slow.ended(stage)
    (slow.root / "slow").unlink()
    assert client.read_flow_run(run).state.name == "Running"
    done = slow.command("run")
    assert done.returncode == 0 and "marked as crashed: its process was killed" in done.stdout
    assert client.read_flow_run(run).state.name == "Crashed"
    assert_free(slow)


@pytest.fixture
def left(served, client) -> UUID:
    """A flow run that the server calls running, and whose process is gone."""
    from prefect import flow
    from prefect.states import Running

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = client.create_flow_run(flow(lambda: None, name="left"), state=Running()).id
    write_json(served.root / f".metaloom/flow-runs/{run}.json", {"pid": gone.pid, "host": socket.gethostname()})
    return run


def test_doctor_marks_it(served, client, left):
    from metaloom.cli.doctor import _flow_runs

    (finding,) = _flow_runs(served.root)
    assert finding.what.startswith("1 flow run of a process that was killed") and finding.fix()
    state = client.read_flow_run(left).state
    assert (state.name, state.message) == ("Crashed", "its process was killed")
    assert list(_flow_runs(served.root)) == []


def test_a_run_that_the_server_knows_to_have_ended_stays_as_it_is(served, client, left):
    """Killed between its last word and the end of its process."""
    from prefect.states import Completed

    from flows.notes import killed, mark_crashed

    client.set_flow_run_state(left, Completed())
    assert mark_crashed(served.root) == [] and killed(served.root) == []
    assert client.read_flow_run(left).state.name == "Completed"


@pytest.mark.parametrize("whose", ["another machine's", "one that works"])
def test_others_runs_are_left_alone(served, client, left, whose):
    from flows.notes import mark_crashed

    note = {"pid": os.getpid(), "host": socket.gethostname()} if whose == "one that works" else {"pid": 1, "host": "x"}
    write_json(served.root / f".metaloom/flow-runs/{left}.json", note)
    assert mark_crashed(served.root) == [] and client.read_flow_run(left).state.name == "Running"


@pytest.mark.slow
def test_a_run_that_was_taken_and_never_began(served, client, serve):
    """Killed while its process was starting: there is no note yet."""
    deployment = serve("--interval", "86400")
    module = served.root / "flows/retrain.py"
    module.write_text(f"import time\n\ntime.sleep(1000)\n{module.read_text()}")
    run = client.create_flow_run_from_deployment(deployment).id
    deadline = time.monotonic() + PATIENCE
    while not client.read_flow_run(run).state.is_pending() and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(*family(served))
    assert noted(served) == [] and final_state(client, run).name == "Crashed"


@pytest.mark.slow
def test_a_run_that_ends_leaves_neither_note_nor_guard(served):
    process = served.start("run")
    served.wait_for("prepare.txt")
    guard = guard_of(served)
    assert process.wait(timeout=PATIENCE) == 0
    assert noted(served) == [] and served.ended(guard.pid)
