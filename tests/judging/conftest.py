"""Projects of `judged`, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from judged import Project, start

from metaloom.config import Settings


@pytest.fixture(scope="module")
def make_versions(tmp_path_factory: pytest.TempPathFactory, tiny_settings: Settings) -> Callable[[], Project]:
    """A new project without a commit."""

    def made() -> Project:
        root = tmp_path_factory.mktemp("judged")
        start(root)
        return Project(root, tiny_settings)

    return made
