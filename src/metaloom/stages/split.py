"""DVC stage `split`: share the domains or classes out, and draw the fixed episodes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from metaloom.config import SPLITS, Settings, load_settings
from metaloom.data.packed import Dataset
from metaloom.stages import run_stage
from metaloom.system.files import atomic_dir
from metaloom.system.plural import several
from metaloom.system.terminal import say
from metaloom.tasks import class_table, draw_fixed_episodes, draw_studies
from metaloom.tasks.kept import share_out
from metaloom.tasks.studies import STUDIES


def main(dataset: str, plan: str, assigned: str, splits: str) -> None:
    """Write classes.parquet, episodes.parquet and studies.parquet to the folder `splits`; `assigned` is splits.yaml."""
    settings = load_settings(plan=plan)
    table = class_table(Dataset.load(dataset).items)
    classes, unit = share_out(table, settings.split, settings.seed, Path(assigned))
    with atomic_dir(splits) as folder:
        write_splits(folder, classes, settings)
    if unit == "class":
        few = table["domain"].nunique() < len(SPLITS)
        why = f"data/ has {several(table['domain'].nunique(), 'domain')}" if few else f"as {assigned} or data/ has it"
        say(f"shared out class by class: {why} (split.by: {settings.split.by})")
    for split in SPLITS:
        part = classes[classes["split"] == split]
        say(f"{split}: {several(len(part), 'class', 'classes')} of {several(part['domain'].nunique(), 'domain')}")


def write_splits(folder: Path, classes: pd.DataFrame, settings: Settings) -> None:
    """Draw the episodes, and write everything into an existing folder.

    Args:
        classes: the class table with its `split` column.
    """
    classes.to_parquet(folder / "classes.parquet", index=False)
    draw_fixed_episodes(classes, settings.episodes, settings.seed).to_parquet(folder / "episodes.parquet", index=False)
    studies = draw_studies(classes, settings.studies, settings.episodes.n_query, settings.seed)
    studies.to_parquet(folder / STUDIES, index=False)


if __name__ == "__main__":
    run_stage(main)
