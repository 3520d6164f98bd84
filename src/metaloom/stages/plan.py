"""DVC stage `plan`: share the data out, fit the settings to them, and refuse at once all that does not fit."""

from __future__ import annotations

from pathlib import Path

from metaloom.config import environment_overrides, read_params
from metaloom.data.packed import Dataset
from metaloom.planning.budget import read_budget
from metaloom.planning.plan import checked, make_plan
from metaloom.stages import run_stage
from metaloom.system.files import write_json
from metaloom.system.terminal import say
from metaloom.system.unchanged import check_named
from metaloom.tasks.kept import write_kept


def main(dataset: str, budget: str, plan: str, assigned: str, note: str = "") -> None:
    """Write the file `plan`: a value for every setting that may be `auto`, and what was fitted in words.

    What has a split in the file `assigned` keeps it, and the file then has the splits of all.

    Raises:
        MetaloomError: the data set is not of the version of data/ that dvc.lock names, or the settings do not fit.
    """
    if note:
        check_named(note)
    data, place = Dataset.load(dataset), Path(assigned)
    made = checked(make_plan(read_params(), environment_overrides(), data, place, read_budget(budget)))
    write_kept(place, made.classes, made.unit, made.settings.split, made.settings.seed)
    write_json(plan, made.saved())
    for sentence in made.fitted:
        if sentence != data.quality.get("reading"):  # `prepare` has said it
            say(sentence)


if __name__ == "__main__":
    run_stage(main)
