"""DVC stage `tune`: choose every single-task learner's settings on validation episodes."""

from __future__ import annotations

from pathlib import Path

import torch

from metaloom.baselines import Features, choose
from metaloom.config import load_settings
from metaloom.data.packed import Dataset, seen_as
from metaloom.learner import Learner, champion
from metaloom.networks.engine import choose_engine
from metaloom.stages import run_stage
from metaloom.system.device import choose_device, return_freed_memory
from metaloom.system.files import write_json
from metaloom.system.terminal import say
from metaloom.tasks import load_episodes


def main(dataset: str, splits: str, plan: str, models: str, pretrained: str, choices: str) -> None:
    """Write what was chosen, and all that was tried, as JSON."""
    settings = load_settings(plan=plan)
    device = choose_device(settings.device)
    choose_engine(settings.engine)
    tables = load_episodes(splits, "validation", settings.baselines.settings)
    best = Learner.load(Path(models) / champion(models, settings.trained), device)
    examples = torch.from_numpy(Dataset.load(dataset).examples)
    own = torch.from_numpy(seen_as(dataset, best.encoding.takes))
    start = Learner.load(pretrained, device, "pretrain")
    features = Features.of(examples, tables.values(), best, start, None if own.shape == examples.shape else own)
    return_freed_memory()  # the processes of the single-task learners take their own
    chosen = choose(features, settings.baselines, tables)
    write_json(choices, {name: choice.saved() for name, choice in chosen.items()})
    tried = sum(len(each["tried"]) for choice in chosen.values() for each in choice.searched)
    say(f"{len(chosen)} single-task learners, the best of {tried} candidates → {choices}")


if __name__ == "__main__":
    run_stage(main)
