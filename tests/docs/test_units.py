"""The units of systemd that docs/scheduling.md shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from projects import REPO

from metaloom.cli.app import COMMANDS

UNIT = re.compile(r"`/etc/systemd/system/(\w+\.service)`:\n\n```ini\n(.+?)```", re.DOTALL)


@pytest.fixture
def units() -> dict[str, str]:
    found = dict(UNIT.findall((REPO / "docs/scheduling.md").read_text(encoding="utf-8")))
    assert found.keys() == {"prefect.service", "metaloom.service"}
    return found


def test_they_start_at_boot_and_again_what_there_is_to_start(units):
    for name, text in units.items():
        parser = ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] (as the documentation of Python does)
        parser.read_string(text)
        program, *words = parser["Service"]["ExecStart"].split()
        assert (
            Path(program).name == name.removesuffix(".service")
            and (Path(sys.executable).parent / Path(program).name).exists()
        )
        assert words[0] in COMMANDS or words == ["server", "start"]
        assert parser["Service"]["Restart"] == "always" and parser["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_them(units, tmp_path):
    for name, text in units.items():
        (tmp_path / name).write_text(re.sub("^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and str(tmp_path) not in done.stderr, done.stderr
