"""YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaloom.errors import MetaloomError


@pytest.mark.parametrize(
    "content",
    ["day: 2026-99-99", "deep: " + "[" * 5000, "[" * 100_000, "- " * 100_000],
    ids=["date", "depth", "brackets", "lists"],
)
def test_yaml_that_its_parser_stumbles_over_is_one_line(tmp_path: Path, content: str):
    from metaloom.system.files import read_yaml

    (tmp_path / "broken.yaml").write_text(content)
    with pytest.raises(MetaloomError, match=r"broken\.yaml is no valid YAML"):
        read_yaml(tmp_path / "broken.yaml")
