"""The `metaloom` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from metaloom import (
    __version__,
    compare_commands,
    data_commands,
    fleet_commands,
    handoff_commands,
    registry_commands,
    report_commands,
    run_commands,
)
from metaloom.errors import MetaloomError
from metaloom.system.terminal import QUIET

app = typer.Typer(
    help="Many small tasks in; a model that learns the next one from a handful of labels out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run_commands.run)
app.command()(run_commands.serve)
app.add_typer(data_commands.app, name="data")
app.command()(handoff_commands.adapt)
app.command()(handoff_commands.predict)
app.command()(handoff_commands.verify)
app.command()(handoff_commands.inspect)
app.command()(handoff_commands.bench)
app.command()(fleet_commands.fleet)
app.command()(registry_commands.models)
app.command()(registry_commands.promote)
app.command()(registry_commands.rollback)
app.command()(report_commands.report)
app.command()(compare_commands.compare)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"metaloom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress; only results and errors."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it."),
) -> None:
    if quiet:
        os.environ[QUIET] = "1"


def main(command: Callable[..., Any] = app) -> None:
    """Run the command line: a mistake that the user can mend is one line on standard error and exit code 2."""
    try:
        command()
    except MetaloomError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
