"""The `metaloom` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from metaloom import __version__
from metaloom.cli import adapt, bundle, compare, data, fleet, registry, report, run, serve
from metaloom.errors import MetaloomError
from metaloom.system.terminal import QUIET

app = typer.Typer(
    help="Many small tasks in; a model that learns the next one from a handful of labels out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(serve.serve)
app.add_typer(data.app, name="data")
app.command()(adapt.adapt)
app.command()(bundle.predict)
app.command()(bundle.verify)
app.command()(bundle.inspect)
app.command()(bundle.bench)
app.command()(fleet.fleet)
app.command()(registry.models)
app.command()(registry.promote)
app.command()(registry.rollback)
app.command()(report.report)
app.command()(compare.compare)


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
