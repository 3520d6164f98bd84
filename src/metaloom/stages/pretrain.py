"""DVC stage `pretrain`: ordinary classification of the training classes, which transfer learning starts from.

It is the training of the method `shared`, with settings of its own.
"""

from __future__ import annotations

import json
import os

from metaloom.config import OVERRIDES, environment_overrides, load_settings
from metaloom.stages import run_stage, train


def main(dataset: str, splits: str, model: str, metrics: str) -> None:
    """Write what `train` writes."""
    own = load_settings().pretrain.model_dump()
    distortion = own.pop("distortion")
    overrides = {f"shared.{name}": value for name, value in own.items()}
    overrides |= {"train.distortion": distortion, "train.within_domain": 0.0}
    os.environ[OVERRIDES] = json.dumps(environment_overrides() | overrides)
    train.main("shared", dataset, splits, model, metrics)


if __name__ == "__main__":
    run_stage(main)
