"""One made-up project, its page and one browser for all tests of the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser
from made_up_project import copy_project, make_project
from page_parser import Page

from metaloom.report.inputs import Inputs
from metaloom.report.page import build


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Nine domains, eight settings; read it, don't change it."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def text(project: Inputs) -> str:
    return build(project)


@pytest.fixture(scope="session")
def page(text: str) -> Page:
    return Page(text)


@pytest.fixture(scope="session")
def file(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def made_small(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_project(tmp_path_factory.mktemp("small"), 4, settings=("5w1s", "20w1s", "20w5s_domain", "20w1s_domain"))


@pytest.fixture
def small(made_small: Inputs, tmp_path: Path) -> Inputs:
    """Four domains, four settings: a copy, to be changed."""
    return copy_project(made_small, tmp_path)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running
