"""DVC stage `split`: share the domains out, and draw the fixed episodes."""

from __future__ import annotations

from metaloom.config import SPLITS, load_settings
from metaloom.data.packed import Dataset
from metaloom.stages import run_stage
from metaloom.system.files import atomic_dir
from metaloom.system.terminal import say
from metaloom.tasks import assign_splits, class_table, draw_fixed_episodes, draw_studies
from metaloom.tasks.studies import STUDIES


def main(dataset: str, plan: str, splits: str) -> None:
    """Write classes.parquet, episodes.parquet and studies.parquet to the folder `splits`."""
    settings = load_settings(plan=plan)
    classes = assign_splits(class_table(Dataset.load(dataset).items), settings.split, settings.seed)
    episodes = draw_fixed_episodes(classes, settings.episodes, settings.seed)
    studies = draw_studies(classes, settings.studies, settings.episodes.n_query, settings.seed)
    with atomic_dir(splits) as folder:
        classes.to_parquet(folder / "classes.parquet", index=False)
        episodes.to_parquet(folder / "episodes.parquet", index=False)
        studies.to_parquet(folder / STUDIES, index=False)
    for split in SPLITS:
        part = classes[classes["split"] == split]
        say(f"{split}: {len(part):,} classes of {part['domain'].nunique()} domains")


if __name__ == "__main__":
    run_stage(main)
