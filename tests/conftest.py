"""What many tests share: the repo's settings, a tiny data set, a tiny project."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from projects import REPO, TINY, draw_shapes, make_project

from metaloom.config import Settings, load_settings

os.environ["OMP_NUM_THREADS"] = "1"  # the networks here are tiny: threads would only wait for each other
torch.set_num_threads(1)


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
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set; read it, copy it, don't change it."""
    folder = tmp_path_factory.mktemp("shapes")
    draw_shapes(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, shapes: Path) -> Path:
    return make_project(tmp_path, shapes)


@pytest.fixture
def make(tmp_path: Path, shapes: Path) -> Callable[[dict], Path]:
    """`make({"protonet.steps": 5})`: a project with some params of its own."""
    return lambda overrides: make_project(tmp_path, shapes, overrides)
