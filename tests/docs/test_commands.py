"""Every command that the documentation shows could be typed as it stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from dvc.cli import parse_args
from shown import Shown, commands
from typer.main import get_command

from metaloom.cli.app import app
from metaloom.config import load_settings, parse_override

Pages = dict[Path, str]
USAGE = typer.BadParameter.__mro__[1]  # what typer raises at a command line that does not fit


@pytest.fixture(scope="module")
def shown(pages: Pages) -> list[Shown]:
    return [each for text in pages.values() for each in commands(text)]


def of_program(shown: list[Shown], program: str) -> list[Shown]:
    return [Shown(words[1:], complete) for words, complete in shown if words[0] == program]


def parse(command: Any, words: list[str], complete: bool) -> None:
    """Read a command line without running it; one in the text may leave out what is required."""
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands"):
        assert not words, f"no command {words}"
        return
    try:
        command.make_context("metaloom", words)
    except typer.BadParameter as error:
        assert type(error).__name__ == "MissingParameter", error
        assert not complete, f"{words} lacks an argument"


def test_every_metaloom_command_has_the_arguments_that_are_shown(shown):
    lines = of_program(shown, "metaloom")
    assert len(lines) > 40
    for words, complete in lines:
        if words != ["COMMAND", "--help"]:
            parse(get_command(app), list(words), complete)


@pytest.mark.parametrize(
    ("words", "complete"),
    [(["traing"], False), (["run", "--sett", "a=1"], False), (["adapt", "--out", "b"], True), (["data", "ad"], False)],
)
def test_a_wrong_one_would_be_found(words, complete):
    with pytest.raises((AssertionError, USAGE)):
        parse(get_command(app), words, complete)


def test_the_readme_has_every_command_in_the_group_of_the_help_page(readme):
    shown = {
        name: row.split("|")[1].strip()
        for row in readme.splitlines()
        if row.startswith("|")
        for name in re.findall(r"`metaloom (\w+)", row)
    }
    groups = {name: command.rich_help_panel for name, command in get_command(app).commands.items()}
    assert shown == {name: group.split(",")[0] for name, group in groups.items()}


def test_every_set_shown_is_legal_together_with_its_neighbours(repo, shown):
    lines = [[words[at + 1] for at, word in enumerate(words) if word == "--set"] for words, _ in shown]
    lines = [line for line in lines if line and line != ["KEY=VALUE"]]
    assert len(lines) > 8
    for line in lines:
        load_settings(repo / "params.yaml", dict(map(parse_override, line)))


def test_make_targets_exist(repo, shown):
    targets = set(re.findall(r"^([\w-]+):", (repo / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {words[0] for words, _ in of_program(shown, "make")} <= targets


def test_scripts_exist(repo, shown):
    own = [words for words, _ in of_program(shown, "python") if "/" in words[0]]
    assert own
    for script, *_ in own:
        assert (repo / script).is_file(), script


def test_extras_exist(repo, shown):
    extras = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {
        extra for words, _ in of_program(shown, "pip") for extra in re.findall(r"metaloom\[([\w-]+)\]", " ".join(words))
    }
    assert named
    assert named <= set(extras)


def test_dvc_knows_its_commands(shown):
    for words, _ in of_program(shown, "dvc"):
        parse_args(words)
