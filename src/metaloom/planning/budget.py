"""What a time budget came to on the machine that it was measured on: budget.yaml, a small file that is committed.

The stage `plan` depends on it, so that `dvc repro` repeats the run of `metaloom run --minutes N` on every machine.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaloom.config import AUTO, METHODS, auto_keys, filled, first_problem
from metaloom.config.methods import MethodName
from metaloom.config.settings import KindName
from metaloom.errors import MetaloomError
from metaloom.system.files import read_yaml, write_text
from metaloom.system.lock import STATE

MOST_EFFORT = 64  # that a budget buys
LEAST_MINUTES = 0.5  # the stages of a run start for as long, whatever the data
MOST_MINUTES = 7 * 24 * 60
BUDGET = Path("budget.yaml")  # in a project's root
ABOUT = """\
# What `metaloom run --minutes N` has chosen; it stays until the data, the settings or N change. `--minutes 0` goes back
# to a run without a budget.
"""


class Budget(BaseModel):
    """budget.yaml.

    Args:
        minutes: that the whole run may take; None: there is no budget.
        data: the version of data/ that `effort` was chosen for.
        settings: a hash of the settings that it was chosen for, see `settings_hash`.
        effort: 1 where there is no budget, 2 for twice the steps. With it networks get wider, and slow learners answer
            more episodes.
        left_out: methods that are not trained, as there is too little time for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    minutes: Annotated[float, Field(ge=LEAST_MINUTES, le=MOST_MINUTES)] | None = None
    data: str | None = None
    settings: str | None = None
    effort: Annotated[float, Field(gt=0, le=MOST_EFFORT)] = 1.0
    left_out: tuple[MethodName, ...] = ()

    def changes(self, asked: Budget) -> list[str]:
        """What is asked for now that `effort` was not chosen for: "minutes", "data", "settings"; none: it holds."""
        return [name for name in ("minutes", "data", "settings") if getattr(self, name) != getattr(asked, name)]


NO_BUDGET = Budget()


def check_minutes(minutes: float | None) -> None:
    """Refuse a value of `--minutes` that no run can have; None where it was not given.

    Raises:
        MetaloomError: it is neither 0 nor a time that a run may take.
    """
    if minutes is None or minutes == 0 or LEAST_MINUTES <= minutes <= MOST_MINUTES:
        return
    raise MetaloomError(
        f"--minutes {minutes:g}: write from {LEAST_MINUTES:g} to {MOST_MINUTES:g} (a week); 0: a run without a budget"
    )


def budget_for(minutes: float, data: str | None, raw: dict[str, Any]) -> Budget:
    """A budget whose effort and methods are yet to be chosen.

    Args:
        minutes: for the whole run.
        data: the version of data/.
        raw: params.yaml under the overrides, as it is written; a legal one.
    """
    return Budget(minutes=minutes, data=data, settings=settings_hash(raw))


def settings_hash(raw: dict[str, Any]) -> str:
    """Hash of the settings that an effort is chosen for, as they are written: with `auto` for what it chooses.

    Neither sections of methods and kinds that are not used count, nor `limits` and `export`: its time does not depend
    on them.
    """
    unused = {"export", "limits", *METHODS, *get_args(KindName)} - {*raw["methods"], raw["kind"]}
    written = filled(raw, dict.fromkeys(auto_keys(raw), AUTO))
    read = {section: value for section, value in written.items() if section not in unused}
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]


def planned_at(minutes: float) -> Path:
    """The file in a project's root that keeps what `metaloom plan --minutes N` chose here, for the run to take."""
    return Path(STATE, f"planned-{minutes:g}-minutes.yaml")


def read_budget(path: str | Path) -> Budget:
    """What the file says; no budget where it is absent.

    Raises:
        MetaloomError: it is not what `write_budget` writes.
    """
    if not Path(path).is_file():
        return NO_BUDGET
    remedy = f"`git checkout {path}` restores the last one" if Path(path).name == BUDGET.name else "remove it"
    found = read_yaml(path, remedy)
    if not isinstance(found, dict):
        raise MetaloomError(f"{path} has no minutes, data and effort: {remedy}")
    try:
        return Budget.model_validate(found)
    except ValidationError as error:
        raise MetaloomError(f"{path}: {first_problem(error)}: {remedy}") from None


def with_budget(stages: list[str], minutes: float | None) -> list[str]:
    """The stages, with "budget" before what depends on it, where there is one."""
    if minutes is None:
        return stages
    place = stages.index("plan") if "plan" in stages else len(stages)
    return [*stages[:place], "budget", *stages[place:]]


def write_budget(path: str | Path, budget: Budget) -> None:
    """Write the file as a whole."""
    write_text(path, ABOUT + yaml.safe_dump(budget.model_dump(mode="json"), sort_keys=False))
