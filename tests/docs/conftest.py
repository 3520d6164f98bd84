"""The documentation as text: the README, CONTRIBUTING and the pages of the site."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pages(repo: Path) -> dict[Path, str]:
    """Every page by its file."""
    files = [repo / "README.md", repo / "CONTRIBUTING.md", *sorted((repo / "docs").glob("*.md"))]
    return {file: file.read_text(encoding="utf-8") for file in files}


@pytest.fixture(scope="session")
def readme(repo: Path, pages: dict[Path, str]) -> str:
    return pages[repo / "README.md"]
