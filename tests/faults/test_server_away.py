"""A Prefect server of one's own that is away for a while: what is being made goes on, and is reported later."""

from __future__ import annotations

import signal
import time
from urllib.parse import urlsplit

import pytest
from proxy import Proxy
from serving import final_state
from standins import PATIENCE

ENDING = 150.0  # seconds: it is to be 45, and would be minutes


@pytest.fixture
def proxy(served):
    """Between the commands and the server."""
    url = urlsplit(served.environment["PREFECT_API_URL"])
    proxy = Proxy(url.port)
    served.environment = served.environment | {
        "PREFECT_API_URL": f"http://127.0.0.1:{proxy.port}/api",
        "PREFECT_API_REQUEST_TIMEOUT": "5",
    }
    yield proxy
    proxy.close()


def run_without_server(served, client, proxy, how: str, seconds: float) -> None:
    """The server is away from the middle of the third of four stages until `seconds` after the last."""
    (served.root / "slow").touch()
    process = served.start("run")
    served.wait_for("maml.txt")
    (note,) = (served.root / ".metaloom/flow-runs").iterdir()
    setattr(proxy, how, True)
    (served.root / "slow").unlink()
    deadline = time.monotonic() + PATIENCE
    while not (served.root / "join.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (served.root / "join.txt").exists()
    time.sleep(seconds)
    assert process.poll() is None and client.read_flow_run(note.stem).state.name == "Running"
    setattr(proxy, how, False)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "stages  4 ran" in out, err
    assert final_state(client, note.stem).name == "Completed"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["away", "hangs"])
def test_the_server_is_away_when_a_run_ends(served, client, proxy, how):
    run_without_server(served, client, proxy, how, seconds=2)


@pytest.mark.sweep  # it waits for three and a half minutes
def test_the_server_is_away_for_minutes(served, client, proxy):
    run_without_server(served, client, proxy, "away", seconds=210)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["away", "hangs"])
def test_serve_ends_though_the_server_is_away(served, client, proxy, serve, how):
    """A run is at work, of which the server cannot be told."""
    (served.root / "slow").touch()
    client.create_flow_run_from_deployment(serve("--interval", "86400"))
    (process,) = served.started
    stage = served.wait_for("maml.txt")
    setattr(proxy, how, True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=ENDING)  # until the flow, too, has closed what it writes to
    setattr(proxy, how, False)
    assert served.ended(stage)


@pytest.mark.slow
def test_run_ends_though_the_server_is_away(served, client, proxy):
    (served.root / "slow").touch()
    process = served.start("run")
    stage = served.wait_for("maml.txt")
    proxy.away = True
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=ENDING)
    assert process.returncode == 143 and served.ended(stage)
