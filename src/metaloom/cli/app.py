"""The `metaloom` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from metaloom import __version__
from metaloom.cli import (
    adapt,
    bundle,
    compare,
    data,
    doctor,
    encoder,
    engine,
    fleet,
    init,
    judge,
    models,
    plan,
    report,
    retrain,
    run,
    serve,
    shadow,
)
from metaloom.errors import BAD_INPUT, MetaloomError
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


class InGroups(TyperGroup):
    """Commands in the order of their groups."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return sorted(self.commands, key=lambda name: GROUPS.index(vars(self.commands[name])["rich_help_panel"]))


app = typer.Typer(
    cls=InGroups,
    rich_markup_mode="markdown",  # it fills lines; the other modes break them where a docstring does
    help="Many small tasks in; a model that learns the next one from a handful of labelled examples out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(rich_help_panel=PIPELINE)(init.init)
app.command(rich_help_panel=PIPELINE)(run.run)
app.command(rich_help_panel=PIPELINE)(plan.plan)
app.command(rich_help_panel=PIPELINE)(engine.engine)
app.command(rich_help_panel=PIPELINE)(report.report)
app.command(rich_help_panel=PIPELINE)(retrain.retrain)
app.command(rich_help_panel=PIPELINE)(serve.serve)
app.command(rich_help_panel=PIPELINE)(doctor.doctor)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(encoder.app, name="encoder", rich_help_panel=DATA)
app.command(rich_help_panel=TASKS)(adapt.adapt)
app.command(rich_help_panel=TASKS)(fleet.fleet)
app.command(rich_help_panel=BUNDLES)(bundle.predict)
app.command(rich_help_panel=BUNDLES)(bundle.verify)
app.command(rich_help_panel=BUNDLES)(bundle.inspect)
app.command(rich_help_panel=BUNDLES)(bundle.bench)
app.command(rich_help_panel=VERSIONS)(compare.compare)
app.command(rich_help_panel=VERSIONS)(judge.judge)
app.command(rich_help_panel=VERSIONS)(shadow.shadow)
app.command(rich_help_panel=VERSIONS)(models.models)
app.command(rich_help_panel=VERSIONS)(models.promote)
app.command(rich_help_panel=VERSIONS)(models.rollback)
app.command(rich_help_panel=VERSIONS)(retrain.history)
app.command(rich_help_panel=VERSIONS)(models.gc)


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
