"""Every fault that the pages promise something about has a test that exists."""

from __future__ import annotations

import re

import pytest
from projects import REPO

TEST = re.compile(r"`((?:tests/)?(?:[\w-]+/)*test_\w+\.py)`")


@pytest.mark.parametrize(("page", "folder"), [("reliability.md", "tests/faults"), ("security.md", "tests")])
def test_each_row_names_a_test(page: str, folder: str):
    rows, inside = 0, False
    for line in (REPO / "docs" / page).read_text(encoding="utf-8").splitlines():
        inside = line.startswith("|") and (inside or line.rstrip(" |").endswith("| test"))
        if not inside or line.startswith("|---") or line.rstrip(" |").endswith("| test"):
            continue
        last = line.rstrip(" |").rpartition("|")[2].strip()
        named = TEST.findall(last)
        assert named or last.startswith(("the same", "the first in")), line
        for each in named:
            assert (REPO / each if each.startswith("tests/") else REPO / folder / each).is_file(), each
        rows += 1
    assert rows > 20
