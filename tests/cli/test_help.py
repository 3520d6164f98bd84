from __future__ import annotations

import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from metaloom.cli import app as cli

GROUPS = (cli.PIPELINE, cli.DATA, cli.TASKS, cli.BUNDLES, cli.VERSIONS)


def test_every_command_is_in_a_group():
    for name, command in get_command(cli.app).commands.items():
        assert getattr(command, "rich_help_panel", None) in GROUPS, name


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_s_example_is_of_its_own_and_parses(group):
    words = group.split("metaloom ")[1].split()
    command = get_command(cli.app).commands[words[0]]
    assert command.rich_help_panel == group
    for option in re.findall(r"--[\w-]+", group):
        assert any(option in parameter.opts for parameter in command.params), option


def test_help_shows_groups_and_examples():
    text = CliRunner(env={"COLUMNS": "120"}).invoke(cli.app, ["--help"]).stdout
    assert all(group.split(",")[0] in text for group in GROUPS)
    assert "metaloom run --set train.n_shot=5" in text
