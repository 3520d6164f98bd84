from __future__ import annotations

import itertools
import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from metaloom.cli import app as cli


def test_every_command_is_in_a_group():
    for name, command in get_command(cli.app).commands.items():
        assert getattr(command, "rich_help_panel", None) in cli.GROUPS, name


@pytest.mark.parametrize("group", cli.GROUPS)
def test_a_group_s_example_is_of_its_own_and_parses(group):
    words = group.split("metaloom ")[1].split()
    command = get_command(cli.app).commands[words[0]]
    assert command.rich_help_panel == group
    for option in re.findall(r"--[\w-]+", group):
        assert any(option in parameter.opts for parameter in command.params), option


def said(*words: str) -> str:
    """What `metaloom … --help` prints in a terminal of the usual width."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(cli.app, [*words, "--help"])
    assert result.exit_code == 0, repr(result.exception)
    return result.stdout


def test_help_shows_the_groups_in_their_order_with_an_example_each():
    text = said()
    places = [text.index(group) for group in cli.GROUPS]
    assert places == sorted(places)


@pytest.mark.parametrize("words", [("plan",), ("serve",), ("data", "add")])
def test_lines_are_filled_wherever_the_source_breaks_them(words):
    """A line that ends early ends a paragraph: the next word would have had room."""
    lines = [line.strip() for line in said(*words).split("╭")[0].splitlines()[2:]]
    for line, following in itertools.pairwise(lines):
        assert not (line and following) or len(line) + 1 + len(following.split()[0]) > 78, line
