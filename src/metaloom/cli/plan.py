"""`metaloom plan`: what a run would do with these data and settings, and all that does not fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.project import ended_by_signals, enter_project
from metaloom.config import (
    AUTO,
    MOST,
    PRETRAIN,
    auto_keys,
    environment_overrides,
    parse_override,
    read_params,
    value_at,
)
from metaloom.errors import BAD_INPUT
from metaloom.system.lock import project_lock
from metaloom.system.terminal import say
from metaloom.versioning.paths import Outputs
from metaloom.versioning.project import overriding

if TYPE_CHECKING:
    from metaloom.planning.plan import Plan


def plan(
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting. Repeatable.")
    ] = None,
) -> None:
    """Show what each setting that is `auto` becomes with these data, and everything that does not fit them.

    Nothing is trained; data that are new are prepared. Ends with 0 when everything fits, with 2 when not.
    """
    from metaloom.data.packed import Dataset
    from metaloom.planning.budget import BUDGET, read_budget
    from metaloom.planning.plan import make_plan
    from metaloom.tasks.kept import KEPT

    root = enter_project()
    with overriding(dict(map(parse_override, set_ or []))):
        with ended_by_signals(), project_lock(root, 0):
            _prepare(root)
        raw, overrides = read_params(), environment_overrides()
        data = Dataset.load(Outputs(root).dataset)
        made = make_plan(raw, overrides, data, KEPT, read_budget(BUDGET))
    if made.findings:
        print(
            "\n".join(["these do not fit the data:", *(f"- {each}" for each in made.findings), made.way_out]),
            file=sys.stderr,
        )
        raise typer.Exit(BAD_INPUT)
    for line in _lines(made, auto_keys(raw)):
        print(line)
    say("everything fits: `metaloom run`")


def _prepare(root: Path) -> None:
    from metaloom.pipeline.child import run_stage
    from metaloom.pipeline.stages import is_current

    if not is_current(root, "prepare"):
        run_stage(root, "prepare", say, lambda line: None)


def _lines(made: Plan, auto: frozenset[str]) -> Iterator[str]:
    """A line for each setting that a run with these methods reads, then what was fitted."""
    values, trained = made.saved(), (*made.settings.methods, PRETRAIN)
    for section in ("prepare", "episodes", "studies", "network", "train", *trained, "baselines", "export"):
        for key in (key for key in MOST if key.startswith(f"{section}.")):
            value, most = value_at(values, key), MOST[key]
            fitted = "" if value == most or most == AUTO else f"; {_text(most)} where data are plenty"
            yield f"{key:<33}{_text(value):<24}" + (f"auto{fitted}" if key in auto else "yours")
    yield from ["", *made.fitted] if made.fitted else []


def _text(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
