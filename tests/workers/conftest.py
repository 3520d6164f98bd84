"""The workers of `working`, whose server and database are there once for a test run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import together
from filelock import FileLock
from postgres import Postgres, program
from working import DEPLOYMENT, Workers, cluster


@pytest.fixture
def workers(tmp_path: Path, whole_bundle: Path) -> Iterator[Workers]:
    if not program("initdb"):
        pytest.skip("PostgreSQL is absent")
    home = together.once("workers", cluster)
    with FileLock(together.folder() / "workers.lock"):
        postgres = Postgres(home / "postgres", int((home / "port").read_text()))
        made = Workers(tmp_path, json.loads((home / "environment.json").read_text()), postgres)
        made.make(whole_bundle)
        made.run("prefect", "--no-prompt", "deploy", "--name", "retrain-workers")
        yield made
        made.end()


@pytest.fixture
def client(workers: Workers):
    """Of the server on PostgreSQL."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(workers.environment["PREFECT_API_URL"]) as client:
        yield client
        client.delete_deployment(client.read_deployment_by_name(DEPLOYMENT).id)
