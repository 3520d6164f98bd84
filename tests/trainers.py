"""Small trainers of every method, on pictures of patterns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metaloom.config import Settings
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.methods import METHOD_CLASSES
from metaloom.tasks import EpisodeTable
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training.checkpoint import State
from metaloom.training.trainer import Trainer

CLASSES, COUNT = 12, 6


def images_of_classes() -> np.ndarray:
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.integers(0, 2, (CLASSES, 1, 4, 4, 1)) * 255, np.ones((7, 7, 1)))
    noise = rng.integers(-120, 120, (CLASSES, COUNT, 28, 28, 1))
    return (patterns + noise).clip(0, 255).astype(np.uint8).reshape(-1, 28, 28, 1)


def trainer(name: str, tiny, folder: Path, **changes) -> Trainer:
    images = images_of_classes()
    classes = pd.DataFrame({"first": np.arange(CLASSES) * COUNT, "count": COUNT})
    rows = np.arange(CLASSES * COUNT).reshape(4, 3, COUNT)
    made = Trainer(
        learner=Learner.create(name, tiny, PictureEncoding.of(images)),
        examples=torch.from_numpy(images),
        sampler=EpisodeSampler.of(classes, 3, 1, torch.device("cpu")),
        validation=EpisodeTable(rows[:, :, :1], rows[:, :, 1:3]),
        settings=tiny.train.model_copy(update={"validate_every": 4, "patience": 100}),
        seed=0,
        checkpoint=folder / f"{name}.safetensors",
        fingerprint="one",
        code="",
    )
    return replace(made, **changes)


def turned(made: Trainer, **options: bool) -> Trainer:
    """The same trainer, whose classes are seen turned or mirrored too."""
    kind = replace(made.learner.encoding.kind, **options)
    sampler = replace(made.sampler, views=kind.views)
    return replace(
        made, learner=replace(made.learner, encoding=replace(made.learner.encoding, kind=kind)), sampler=sampler
    )


def shortened(settings: Settings) -> Settings:
    steps = {"steps": 14}
    changed = {name: settings.method(name).model_copy(update=steps) for name in METHOD_CLASSES}
    return settings.model_copy(update=changed)


def tensors_of(state: State) -> dict[str, torch.Tensor]:
    return state.best.weights | {f"s/{k}": v for k, v in state.best.statistics.items()}


class Killed(BaseException):
    pass
