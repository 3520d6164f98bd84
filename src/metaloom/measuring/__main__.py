"""`python -m metaloom.measuring MINUTES BEGAN`: choose how much work fits into so many minutes, and write budget.yaml.

The flow runs it in a process of its own, as it runs the stages.
"""

from __future__ import annotations

import time

from metaloom.config import read_params
from metaloom.measuring.choose import chosen, left_out, left_over, measuring
from metaloom.measuring.keeping import Question
from metaloom.planning.budget import BUDGET, budget_for, write_budget
from metaloom.stages import run_stage
from metaloom.system.lifeline import end_with_parent
from metaloom.system.provenance import data_version
from metaloom.system.terminal import say
from metaloom.versioning.paths import Outputs


def main(minutes: str, began: str) -> None:
    """Measure, choose, and write the file as a whole; `began` is the Unix time at which the run did."""
    wanted, already = float(minutes), time.time() - float(began)
    data, raw = data_version(), read_params()
    with measuring(Outputs().embedded, Question.here(data, raw), already) as here:
        found, seconds = chosen(budget_for(wanted, data, raw), here)
        seconds += here.spent()
        lines = [*left_out(found, here), *left_over(wanted, seconds)]
    write_budget(BUDGET, found)
    say(f"effort {found.effort:.2f} of what a run without a budget has: about {seconds / 60:.1f} of {wanted:g} minutes")
    for line in lines:
        say(line)


if __name__ == "__main__":
    end_with_parent()
    run_stage(main)
