"""`metaloom plan`: what a run would do with these data and settings, and all that does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.project import ended_by_signals, enter_project, given_overrides
from metaloom.config import (
    AUTO,
    MOST,
    PRETRAIN,
    auto_keys,
    environment_overrides,
    most_for,
    read_params,
    value_at,
)
from metaloom.errors import BAD_INPUT
from metaloom.system.lock import project_lock
from metaloom.system.provenance import DATA
from metaloom.system.quantities import duration
from metaloom.system.terminal import complain, say, show
from metaloom.versioning.paths import Outputs
from metaloom.versioning.project import overriding

if TYPE_CHECKING:
    from metaloom.measuring.choose import Measuring
    from metaloom.planning.budget import Budget
    from metaloom.planning.plan import Plan

GIGA = 1e9


def plan(
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting. Repeatable.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="Choose what `run --minutes N` runs; 0: no budget."),
    ] = None,
) -> None:
    """Show what `auto` settings become with these data, and all that does not fit; then the time and memory of a run.

    Time and memory are measured here on a few steps. Data that are new are prepared, and what --minutes N chooses is
    kept for `run --minutes N`; nothing else is written. Ends with 0 when everything fits, with 2 when not.
    """
    from metaloom.planning.budget import check_minutes

    check_minutes(minutes)
    root = enter_project()
    with overriding(given_overrides(root, set_)):  # a mistake is said before `prepare` runs
        with ended_by_signals(), project_lock(root, 0):
            heard = _prepare(root)
        _show(root, Outputs(root).embedded, minutes, heard)
    say("everything fits: `metaloom run" + (f" --minutes {minutes:g}`" if minutes is not None else "`"))


def _show(root: Path, dataset: str, minutes: float | None, heard: frozenset[str] = frozenset()) -> None:
    """The settings, then time and memory; of what was fitted nothing that was heard already."""
    from metaloom.data.packed import Dataset
    from metaloom.measuring.choose import left_out, left_over, measuring
    from metaloom.measuring.keeping import Question
    from metaloom.planning.budget import BUDGET, NO_BUDGET, read_budget
    from metaloom.planning.plan import make_plan
    from metaloom.tasks.kept import SPLITS_FILE
    from metaloom.versioning.data import held_version

    raw, overrides, data = read_params(), environment_overrides(), Dataset.load(dataset)
    kept = NO_BUDGET if minutes == 0 else read_budget(BUDGET)
    usual = make_plan(raw, overrides, data, SPLITS_FILE)
    if usual.findings:
        complain("\n".join(["it cannot run as it is set:", *(f"- {each}" for each in usual.findings), usual.way_out]))
        raise typer.Exit(BAD_INPUT)
    with measuring(dataset, Question.here(held_version(root), raw)) as here:
        budget = _chosen(root, kept, minutes, raw, here)
        here.measured(budget.effort)
        made = make_plan(raw, overrides, data, SPLITS_FILE, budget)
        for line in _unheard(_lines(made, usual, auto_keys(raw), budget.minutes), heard):
            show(line)
        seconds = here.seconds(budget)
        print("\n".join(["", *_times(seconds), f"{'memory':<24}{here.rates(made).memory / GIGA:.1f} GB", ""]))
        for line in (*left_out(budget, here), *left_over(budget.minutes or 0, sum(seconds.values()))):
            show(line)


def _chosen(root: Path, kept: Budget, minutes: float | None, raw: dict[str, Any], here: Measuring) -> Budget:
    """The budget that a run now has: the kept one, or one that is chosen here and kept for the run to take."""
    from metaloom.measuring.choose import chosen
    from metaloom.planning.budget import BUDGET, budget_for, planned_at, write_budget
    from metaloom.versioning.data import held_version

    wanted = kept.minutes if minutes is None else minutes
    if not wanted:
        return kept
    asked = budget_for(wanted, held_version(root), raw)
    changes = kept.changes(asked)
    if not changes:
        print(f"{BUDGET} keeps what was chosen for --minutes {wanted:g} with these data and settings\n")
        return kept
    if minutes is None:
        changed = " and ".join(changes)
        print(f"the effort in {BUDGET} is of other {changed}: the next run has the one that is chosen here\n")
    found, _ = chosen(asked, here)
    write_budget(root / planned_at(wanted), found)
    return found


def _times(seconds: dict[str, float]) -> Iterator[str]:
    yield "time on this machine, measured on a few steps:"
    for stage, each in (seconds | {"in all": sum(seconds.values())}).items():
        yield f"{stage:<24}{duration(each)}"


def _prepare(root: Path) -> frozenset[str]:
    """Data that are new are prepared; the lines that the stages have printed."""
    from metaloom.pipeline.child import reproduce_in_child
    from metaloom.pipeline.stages import is_current
    from metaloom.versioning.data import absent

    if not Path(root, DATA).is_dir():
        raise absent(root)
    heard: set[str] = set()

    def hear(line: str) -> None:
        heard.add(line)
        say(line)

    for stage in ("prepare", "embed"):
        if not is_current(root, stage):
            reproduce_in_child(root, stage, hear, lambda line: None)
    return frozenset(heard)


def _unheard(lines: Iterable[str], heard: frozenset[str]) -> Iterator[str]:
    """Without what a stage has just printed; empty lines stay."""
    return (line for line in lines if not line or line not in heard)


def _lines(made: Plan, usual: Plan, auto: frozenset[str], minutes: float | None) -> Iterator[str]:
    """A line for each setting that a run with these methods reads, then what was fitted.

    Args:
        made: with the budget.
        usual: without one.
        auto: dotted keys.
        minutes: of the budget.
    """
    values, before, trained = made.saved(), usual.saved(), (*made.settings.methods, PRETRAIN)
    plenty = most_for(made.settings.model_dump())
    first = (made.settings.kind, "prepare", "episodes", "studies", "network", "train")
    for section in (*first, *trained, "baselines", "export"):
        for key in (key for key in MOST if key.startswith(f"{section}.")):
            value, unbound, most = value_at(values, key), value_at(before, key), plenty[key]
            fitted = "" if value == most or most == AUTO else f"; {_text(most)} where data are plenty"
            if value != unbound and minutes:
                fitted = f" for --minutes {minutes:g}; {_text(unbound)} without"
            yield f"{key:<33}{_text(value):<24}" + (f"auto{fitted}" if key in auto else "yours")
    yield from ["", *made.fitted] if made.fitted else []


def _text(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
