"""DVC stage `pretrain`: ordinary classification of the training classes, which transfer learning starts from.

It is the training of the method `shared`, by the section `pretrain` of params.yaml, whose name it bears everywhere.
"""

from __future__ import annotations

from metaloom.config import PRETRAIN, Settings, load_settings
from metaloom.stages import run_stage
from metaloom.stages.train import meta_train

MODULE = "metaloom.stages.pretrain"


def main(dataset: str, splits: str, plan: str, model: str, metrics: str) -> None:
    """Write what `train` writes."""
    command = [MODULE, dataset, splits, plan, model, metrics]
    meta_train(PRETRAIN, own_settings(load_settings(plan=plan)), dataset, splits, model, metrics, command)


def own_settings(settings: Settings) -> Settings:
    """Examples are distorted as `pretrain` says, and classes come from all domains, as an ordinary classifier's do."""
    changes = {"distortion": settings.pretrain.distortion, "within_domain": 0.0}
    return settings.model_copy(update={"train": settings.train.model_copy(update=changes)})


if __name__ == "__main__":
    run_stage(main)
