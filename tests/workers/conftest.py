"""The workers of `working`, whose server and database are there once for a test run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from working import DEPLOYMENT, Workers, at_work, client_of


@pytest.fixture
def workers(tmp_path: Path, whole_bundle: Path) -> Iterator[Workers]:
    with at_work(tmp_path, ["retrain-workers"], whole_bundle) as made:
        yield made


@pytest.fixture
def client(workers: Workers):
    with client_of(workers, DEPLOYMENT) as client:
        yield client
