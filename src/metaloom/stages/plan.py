"""DVC stage `plan`: fit the settings to the data, and refuse at once all that does not fit."""

from __future__ import annotations

from metaloom.config import environment_overrides, read_params
from metaloom.data.packed import Dataset
from metaloom.planning.plan import checked, make_plan
from metaloom.stages import run_stage
from metaloom.system.files import write_json
from metaloom.system.terminal import say


def main(dataset: str, plan: str) -> None:
    """Write the file `plan`: a value for every setting that may be `auto`, and what was fitted in words."""
    data, overrides = Dataset.load(dataset), environment_overrides()
    made = checked(make_plan(read_params(), overrides, data.items, data.quality, data.kind.many))
    write_json(plan, made.saved())
    for sentence in made.fitted:
        say(sentence)


if __name__ == "__main__":
    run_stage(main)
