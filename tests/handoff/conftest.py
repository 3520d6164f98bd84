from __future__ import annotations

import pytest

from metaloom.config import Settings


@pytest.fixture(scope="session")
def tiny_settings(few_steps: Settings) -> Settings:
    return few_steps
