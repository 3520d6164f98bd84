"""A run that has nothing to do: what it says, known without a flow and a server of Prefect."""

from __future__ import annotations

from pathlib import Path

from metaloom.config import PARAMS, load_settings, read_params
from metaloom.errors import MetaloomError
from metaloom.pipeline.code import renew_code
from metaloom.pipeline.stages import stages_for, which_are_due
from metaloom.pipeline.summary import RunSummary, StageRun, summarise
from metaloom.planning.budget import BUDGET, budget_for, read_budget, with_budget
from metaloom.system.provenance import data_version
from metaloom.versioning.data import held_version, version_dataset


def cached_run(root: Path, only: str | None) -> RunSummary | None:
    """What a run says in which everything is cached; None where something is due, or wrong: the flow says what.

    Args:
        root: the project's.
        only: a stage, with those that it depends on; None: all.
    """
    try:
        load_settings(root / PARAMS)
        held = held_version(root)
        if held is None or held != data_version(root):
            return None
        renew_code(root)
        budget = read_budget(root / BUDGET)
        if budget.minutes and budget.changes(budget_for(budget.minutes, held, read_params(root / PARAMS))):
            return None
        due = which_are_due(root)
        names = list(due) if only is None else stages_for(root, only)
        if any(due[name] for name in names):
            return None
        listed = with_budget(names, budget.minutes) if "plan" in names else names
        data = version_dataset(root, locked=True)
        found = summarise(root, data.message, [StageRun(name, "Cached", 0.0) for name in listed], 0.0)
    except MetaloomError:
        return None
    return found if len(names) == len(due) else found.of_a_part()
