"""The `metaloom` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from metaloom import __version__
from metaloom.errors import BAD_INPUT, MetaloomError
from metaloom.system.collector import spare_collector
from metaloom.system.permissions import unable
from metaloom.system.terminal import QUIET, complain
from metaloom.system.utf8 import in_utf8

# groups of commands, each with an example
PIPELINE = "Pipeline, for example: metaloom run --set train.n_shot=5"
DATA = "Data, for example: metaloom data add drawings.zip"
TASKS = "Your own tasks, for example: metaloom adapt --support photos --out bundle"
BUNDLES = "Bundles, for example: metaloom predict artifacts/bundle picture.png"
VERSIONS = "Versions, for example: metaloom compare HEAD~1"

GROUPS = (PIPELINE, DATA, TASKS, BUNDLES, VERSIONS)


MARKUP = "markdown"  # it fills lines; the other modes break them where a docstring does

# each command's module in metaloom.cli and group, in the order of the help page
COMMANDS = {
    "init": ("init", PIPELINE),
    "run": ("run", PIPELINE),
    "plan": ("plan", PIPELINE),
    "engine": ("engine", PIPELINE),
    "report": ("report", PIPELINE),
    "retrain": ("retrain", PIPELINE),
    "serve": ("serve", PIPELINE),
    "doctor": ("doctor", PIPELINE),
    "data": ("data", DATA),
    "encoder": ("encoder", DATA),
    "adapt": ("adapt", TASKS),
    "fleet": ("fleet", TASKS),
    "predict": ("bundle", BUNDLES),
    "verify": ("bundle", BUNDLES),
    "inspect": ("bundle", BUNDLES),
    "bench": ("bundle", BUNDLES),
    "compare": ("compare", VERSIONS),
    "judge": ("judge", VERSIONS),
    "shadow": ("shadow", VERSIONS),
    "models": ("models", VERSIONS),
    "promote": ("models", VERSIONS),
    "rollback": ("models", VERSIONS),
    "history": ("retrain", VERSIONS),
    "gc": ("models", VERSIONS),
}


class OnDemand(Mapping[str, Any]):
    """Commands by their names. A module is imported when a command of its own is asked for, as together they take
    longer to import than `predict` takes to answer."""

    def __getitem__(self, name: str) -> Any:
        file, panel = COMMANDS[name]
        module = import_module(f"metaloom.cli.{file}")
        holder = typer.Typer(rich_markup_mode=MARKUP, pretty_exceptions_enable=False)
        if hasattr(module, "app"):
            holder.add_typer(module.app, name=name, rich_help_panel=panel)
        else:
            holder.command(rich_help_panel=panel)(getattr(module, name))
        return get_group(holder).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class InGroups(TyperGroup):
    """Commands in the order of their groups."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = OnDemand()  # pyright: ignore[reportAttributeAccessIssue] (none is added later)


app = typer.Typer(
    cls=InGroups,
    rich_markup_mode=MARKUP,
    help="Many small tasks in; a model that learns the next one from a handful of labelled examples out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> bool:
    if wanted:
        print(f"metaloom {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress; only results and errors."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    if quiet:
        os.environ[QUIET] = "1"


def _give_up_output() -> None:
    """Where standard output takes no more: Python would try again at its end, and complain."""
    if sys.stdout is None:  # closed by who called us
        return
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(command: Callable[..., Any] = app) -> None:
    """Run the command line: a mistake that the user can fix is one line on standard error and exit code 2."""
    spare_collector()
    in_utf8()
    if sys.stdin is None:  # closed by who called us
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 (open as long as the process lives)
    try:
        command()
    except MetaloomError as error:
        complain(f"error: {error}")
        sys.exit(BAD_INPUT)
    except OSError as error:
        if not (line := unable(error)):
            raise
        _give_up_output()
        complain(f"error: {line}")
        sys.exit(BAD_INPUT)
