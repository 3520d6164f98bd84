"""What a time budget came to on the machine that it was measured on: budget.yaml, a small file that is committed.

The stage `plan` depends on it, so that `dvc repro` repeats the run of `metaloom run --minutes N` on every machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaloom.errors import MetaloomError
from metaloom.system.files import atomic_file

BUDGET = Path("budget.yaml")  # in a project's root
ABOUT = """\
# What `metaloom run --minutes N` has chosen; it stays until the data or N change. `--minutes 0` goes back to this.
"""


class Budget(BaseModel):
    """budget.yaml.

    Args:
        minutes: that the whole run may take; None: there is no budget.
        data: the version of data/ that `effort` was chosen for.
        effort: 1 where there is no budget, 2 for twice the steps. With it networks get wider, and slow learners answer
            more episodes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    minutes: Annotated[float, Field(gt=0)] | None = None
    data: str | None = None
    effort: Annotated[float, Field(gt=0)] = 1.0


NO_BUDGET = Budget()


def read_budget(path: str | Path) -> Budget:
    """What the file says; no budget where it is absent.

    Raises:
        MetaloomError: it is not what `write_budget` writes.
    """
    if not Path(path).is_file():
        return NO_BUDGET
    remedy = f"`git checkout {path}` restores the last one"
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise MetaloomError(f"{path} has no minutes, data and effort: {remedy}")
        return Budget.model_validate(found)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MetaloomError(f"{path} is no valid YAML ({' '.join(str(error).split())}): {remedy}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise MetaloomError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}: {remedy}") from None


def write_budget(path: str | Path, budget: Budget) -> None:
    """Write the file as a whole."""
    with atomic_file(path) as temporary:
        temporary.write_text(ABOUT + yaml.safe_dump(budget.model_dump(), sort_keys=False), encoding="utf-8")
