"""DVC stage `evaluate`: meta-learners and single-task learners answer the same test episodes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from metaloom.baselines import SINGLE_TASK_LEARNERS
from metaloom.config import load_settings
from metaloom.data.packed import Dataset
from metaloom.device import choose_device, return_freed_memory
from metaloom.evaluation.run import gallery, meta_learner_scores, single_task_scores
from metaloom.evaluation.statistics import paired_differences, summarise
from metaloom.io import atomic_dir, write_json
from metaloom.methods import Learner, champion
from metaloom.methods.pixels import placed
from metaloom.progress import say
from metaloom.stages import run_stage
from metaloom.tasks import load_episodes


def main(dataset: str, splits: str, models: str, evaluation: str, metrics: str) -> None:
    """Write the per-episode table, the paired differences and the gallery, and the figures as metrics."""
    settings = load_settings()
    device = choose_device(settings.device)
    best = champion(models, settings.methods)
    tables = load_episodes(splits, "test", [])
    learners = {name: Learner.load(Path(models) / name, device) for name in settings.methods}
    raw = torch.from_numpy(Dataset.load(dataset).images)
    images = placed(raw, device)
    parts = [meta_learner_scores(name, learner, images, tables) for name, learner in learners.items()]
    shown = gallery(learners[best], images, tables)
    return_freed_memory()  # the processes of the single-task learners take their own
    parts += [single_task_scores(name, settings.evaluate, learners[best], raw, tables) for name in SINGLE_TASK_LEARNERS]
    episodes = pd.concat(parts, ignore_index=True)
    summary = summarise(episodes)
    with atomic_dir(evaluation) as folder:
        episodes.to_parquet(folder / "episodes.parquet", index=False)
        shown.to_parquet(folder / "gallery.parquet", index=False)
        write_json(folder / "champion.json", {"method": best})
        write_json(folder / "differences.json", paired_differences(episodes, best))
        _accuracy_table(summary).to_csv(folder / "accuracy.csv", index=False)
    write_json(metrics, summary)
    for name, settings_of in summary.items():
        say(f"{name}: " + ", ".join(f"{s} {f['accuracy']:.1%} ± {f['ci95']:.1%}" for s, f in settings_of.items()))


def _accuracy_table(summary: dict) -> pd.DataFrame:
    """For `dvc plots`: one row a setting and learner."""
    return pd.DataFrame(
        {"setting": setting, "learner": learner, **figures}
        for learner, by_setting in summary.items()
        for setting, figures in by_setting.items()
    )


if __name__ == "__main__":
    run_stage(main)
