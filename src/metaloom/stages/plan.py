"""DVC stage `plan`: share the data out, fit the settings to them, and refuse at once all that does not fit."""

from __future__ import annotations

from pathlib import Path

from metaloom.config import environment_overrides, load_settings, read_params
from metaloom.data.packed import Dataset
from metaloom.planning.plan import checked, make_plan
from metaloom.stages import run_stage
from metaloom.system.files import write_json
from metaloom.system.terminal import say
from metaloom.tasks import class_table
from metaloom.tasks.kept import share_out, write_kept


def main(dataset: str, plan: str, assigned: str) -> None:
    """Write the file `plan`: a value for every setting that may be `auto`, and what was fitted in words.

    What has a split in the file `assigned` keeps it, and the file then has the splits of all.
    """
    data, overrides, settings = Dataset.load(dataset), environment_overrides(), load_settings()
    classes, unit = share_out(class_table(data.items), settings.split, settings.seed, Path(assigned))
    made = checked(make_plan(read_params(), overrides, classes, data.quality["min_examples"], data.kind.many))
    write_kept(Path(assigned), classes, unit, settings.split, settings.seed)
    write_json(plan, made.saved())
    for sentence in made.fitted:
        say(sentence)


if __name__ == "__main__":
    run_stage(main)
