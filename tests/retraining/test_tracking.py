"""Retrainings in a real MLflow server, which runs beside our own packages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from projects import free_port

from metaloom.config import load_settings
from metaloom.errors import MetaloomError
from metaloom.retraining import loop, tracking
from metaloom.retraining.history import table
from metaloom.retraining.page import page
from metaloom.versioning.registry import rollback

PATIENCE = 200  # seconds that the server may take to start


@pytest.fixture
def url(tmp_path):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed", exc_type=ImportError)
    place, port = tmp_path / "mlflow", free_port()
    place.mkdir()
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, *command], cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        await_server(f"http://127.0.0.1:{port}/health", server, place / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def await_server(url: str, server, log) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(log.read_text())


@pytest.mark.slow
def test_runs_versions_and_the_champion(shared, url, monkeypatch, capsys):
    shared.night()  # before anybody asked for MLflow
    shared.set(mlflow="http://127.0.0.1:1")
    shared.data(0.6)
    assert shared.night().night.outcome == "promoted"  # with the server away
    assert "the server of retrain.mlflow does not take it" in capsys.readouterr().out
    assert [each.logged for each in shared.nights()] == [False, False]
    shared.set(mlflow=url)
    shared.data(0.4)
    assert shared.night().night.outcome == "held"
    assert [each.logged for each in shared.nights()] == [True, True, True]

    client = tracking._client(load_settings(shared.root / "params.yaml").retrain)
    found = client.get_experiment_by_name("retrain")
    runs = {run.info.run_name: run for run in client.search_runs([found.experiment_id])}
    assert [each.name for each in shared.nights()] == sorted(runs)
    last, second = (runs[each.name].data for each in shared.nights()[:0:-1])
    assert (last.tags["outcome"], last.metrics["task.accuracy"]) == ("held", 0.4)
    assert last.params["retrain.stage"] == "prod" and second.tags["metaloom.version"] == "v0.0.2"
    run = runs[shared.nights()[1].name].info.run_id
    assert [each.path for each in client.list_artifacts(run, "bundle")] == ["bundle/metadata.json"]
    assert len(client.search_model_versions("name = 'retrain'")) == 2

    def champion() -> str:
        return client.get_model_version_by_alias("retrain", "champion").tags["metaloom.version"]

    assert champion() == "v0.0.2"
    rollback(shared.root, "prod")
    shared.night()  # nothing is new
    assert champion() == "v0.0.1"
    again = shared.nights()[1]
    assert tracking.track(shared.root, again, load_settings(shared.root / "params.yaml").retrain)
    assert len(client.search_runs([found.experiment_id])) == 3
    assert len(client.search_model_versions("name = 'retrain'")) == 2


def test_without_the_packages(small, monkeypatch):
    monkeypatch.setattr(loop, "find_spec", lambda name: None)
    small.set(mlflow="http://127.0.0.1:5000")
    with pytest.raises(MetaloomError, match=r"mlflow is not installed: `pip install 'metaloom\[mlflow\]'`"):
        small.night()
    small.set(mlflow="null", energy="FRA")
    with pytest.raises(MetaloomError, match=r"codecarbon is not installed: `pip install 'metaloom\[codecarbon\]'`"):
        small.night()
    assert small.nights() == []


@pytest.mark.slow
def test_without_the_setting_it_is_not_imported(small):
    before = "mlflow" in sys.modules
    small.night()
    assert ("mlflow" in sys.modules) == before and not small.nights()[0].logged


def test_a_server_is_a_url(repo):
    with pytest.raises(MetaloomError, match="retrain.mlflow"):
        load_settings(repo / "params.yaml", {"retrain.mlflow": "mlruns"})


@pytest.mark.slow
def test_the_energy_of_a_training(small):
    pytest.importorskip("codecarbon", reason="the extra codecarbon is not installed", exc_type=ImportError)
    small.set(energy="XXX")
    with pytest.raises(MetaloomError, match="retrain.energy is XXX, and codecarbon knows no such country"):
        small.night()
    small.set(energy="FRA")
    found = small.night().night
    assert 0 < found.kwh < 0.1 and 0 < found.co2 < found.kwh and "kWh" in table(small.nights())
    assert "Energy, all nights" in page(small.nights(), "p", "prod", "v0.0.1")
    assert small.git("status", "--porcelain") == ""
