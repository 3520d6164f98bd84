"""What many tests share: the repo's settings, a tiny data set, a tiny project."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import together
import torch
import typecheck  # noqa: F401  before the first import of metaloom
from projects import REPO, TINY, draw_shapes, make_project
from server import environment_of_server

from metaloom.config import Settings, load_settings
from metaloom.handoff.graphs import onnxfile
from metaloom.system.collector import YOUNG

pytest_plugins = ["longest_first", "touching", "standins", "serving", "bundles", "s3"]

# the networks here are tiny: threads would only wait for each other, and processes take longer to start than their work
os.environ |= {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
torch.set_num_threads(1)
gc.set_threshold(YOUNG)  # and see below: with all that is imported here, looking for garbage took a sixth of the time
LIFELINE = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that the user started, and not a worker of pytest-xdist
        config.stash[LIFELINE] = together.begin(keep=not config.getoption("cov_source", None))


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if LIFELINE in config.stash:
        together.end(config.stash[LIFELINE])


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPO


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The settings of the repo's own params.yaml."""
    return load_settings(REPO / "params.yaml")


@pytest.fixture(scope="session")
def tiny_settings() -> Settings:
    return load_settings(REPO / "params.yaml", TINY)


@pytest.fixture(scope="session")
def shapes() -> Path:
    """The tiny data set; read it, copy it, don't change it."""
    return together.once("shapes", draw_shapes)


@pytest.fixture(scope="session", autouse=True)
def graphs() -> Iterator[None]:
    """Graphs are traced once a run, whichever test asks first and wherever it has gone to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxfile, "GRAPHS", together.kept() / "graphs")
        patch.setattr(onnxfile, "GRAPHS_KEPT", 1000)
        yield


@pytest.fixture(scope="session")
def prefect_server() -> dict[str, str]:
    """The environment that reaches a real server with a database of its own."""
    return environment_of_server()


@pytest.fixture
def project(tmp_path: Path, shapes: Path) -> Path:
    return make_project(tmp_path, shapes)


@pytest.fixture
def make(tmp_path: Path, shapes: Path) -> Callable[[dict], Path]:
    """`make({"protonet.steps": 5})`: a project with some params of its own."""
    return lambda overrides: make_project(tmp_path, shapes, overrides)
