from __future__ import annotations

import re

import pytest
import yaml
from typer.main import get_command

from metaloom.cli import app
from metaloom.config import METHODS, load_settings, parse_override


@pytest.fixture(scope="module")
def readme(repo) -> str:
    return (repo / "README.md").read_text()


def test_every_command_it_names_exists(readme):
    known = set(get_command(app).commands)
    named = set(re.findall(r"`metaloom (\w+)", readme)) | set(re.findall(r"^metaloom (\w+)", readme, re.MULTILINE))
    assert named <= known
    assert known <= named


def test_every_override_it_shows_is_legal(repo, readme):
    shown = re.findall(r"--set '?([\w.]+=[^\s'`]+)", readme)
    assert shown
    load_settings(repo / "params.yaml", dict(map(parse_override, shown)))


def test_links_and_files_exist(repo, readme):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (repo / target).exists(), target
    for name in re.findall(r"`(src/[\w/]+|[\w.]+\.(?:yaml|toml))`", readme):
        assert (repo / name).exists(), name


def test_every_method_and_make_target_is_there(repo, readme):
    assert all(f"`{name}`" in readme for name in METHODS)
    targets = set(re.findall(r"^(\w+):", (repo / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)|`make (\w+)`", readme, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }


def test_ci_calls_exactly_the_test_command(repo, readme):
    commands = [
        line for line in (repo / ".ci/run").read_text().splitlines() if line and not line.startswith(("#", "set", "cd"))
    ]
    assert commands == ["make test"]
    assert "\nmake test " in readme


def test_the_schedule_is_the_one_in_prefect_yaml(repo, readme):
    deployment = yaml.safe_load((repo / "prefect.yaml").read_text())["deployments"][0]
    assert deployment["schedules"][0]["cron"] == "0 3 * * *"
    assert "03:00 UTC every day" in readme
