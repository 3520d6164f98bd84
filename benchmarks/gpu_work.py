"""What `gpu.py` trains: any method on a small set of patterns under noise, and ProtoNet on Omniglot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaloom.config import Settings, load_settings, parse_override
from metaloom.data.archives import list_archive, read_archive
from metaloom.kinds import kind_of
from metaloom.kinds.base import Kind
from metaloom.learner import Learner
from metaloom.methods import Episodes, Method, Params
from metaloom.system.parallel import parallel_map
from metaloom.tasks import EpisodeTable, spread_rows
from metaloom.tasks.episodes import draw
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training.bank.trainer import BankTrainer
from metaloom.training.trainer import Trainer

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"
CLASSES, COUNT, DOMAINS = 96, 8, 4  # of the noise
WAYS = 6  # of its validation episodes
GREY = {"pictures.channels": 1}
SMALL = {"network.width": 8, "protonet.n_way": 8, "ridge.n_way": 8, "shared.n_way": 8, "bank.n_way": 8}
SAMPLE = 20_000  # images that Omniglot's encoding is fitted on
NAMES_APIECE = 1_000  # images that one process reads at a time


@dataclass(frozen=True)
class Work:
    """A data set and the settings to train on it.

    Args:
        settings: all of them.
        examples: packed, on the host.
        classes: the class table, with its `split` column.
        validation: episodes that a trainer looks at.
    """

    settings: Settings
    examples: torch.Tensor
    classes: pd.DataFrame
    validation: EpisodeTable

    @classmethod
    def noise(cls, overrides: dict[str, Any], small: bool = False) -> Work:
        """A random pattern for each class under noise; no pixel is at its limit, so hardly any ties for a maximum."""
        settings = load_settings(PARAMS, GREY | (SMALL if small else {}) | overrides)
        rng = np.random.default_rng(0)
        patterns = np.kron(rng.integers(0, 2, (CLASSES, 1, 7, 7, 1)), np.ones((1, 1, 4, 4, 1))) * 128
        images = (patterns + rng.integers(0, 128, (CLASSES, COUNT, 28, 28, 1))).astype(np.uint8)
        names = [f"d{c * DOMAINS // CLASSES}" for c in range(CLASSES)]
        first = np.arange(CLASSES) * COUNT
        table = pd.DataFrame({"class": first, "domain": names, "split": "train", "first": first, "count": COUNT})
        rows = np.arange(CLASSES * COUNT).reshape(-1, WAYS, COUNT)
        validation = EpisodeTable(rows[:, :, :1], rows[:, :, 1:3])
        return cls(settings, torch.from_numpy(images.reshape(-1, 28, 28, 1)), table, validation)

    @classmethod
    def omniglot(cls, folder: Path, recipe: dict[str, str]) -> Work:
        """Both archives: the background alphabets to learn from, but for those to validate on; the others to test."""
        settings = load_settings(PARAMS, GREY | dict(parse_override(f"{key}={value}") for key, value in recipe.items()))
        kind = kind_of(settings)
        images, rows = [], []
        for part in ("background", "evaluation"):
            archive = folder / f"omniglot_images_{part}.zip"
            names = sorted(name for name in list_archive(archive).files if kind.is_example(name))
            pieces = [names[start : start + NAMES_APIECE] for start in range(0, len(names), NAMES_APIECE)]
            images += parallel_map(partial(packed_of, archive, kind), pieces)
            rows += [tuple(f"{part}/{name}".rsplit("/", 2)[:2]) for name in names]
        items = pd.DataFrame(rows, columns=["alphabet", "character"]).reset_index(names="row")
        items["alphabet"] = items["alphabet"].map(lambda path: path.split("/")[0] + "/" + path.split("/")[-1])
        grouped = items.groupby(["alphabet", "character"], sort=False)["row"]
        table = grouped.agg(first="min", count="size").reset_index().rename(columns={"alphabet": "domain"})
        table["split"] = np.where(table["domain"].str.startswith("evaluation/"), "test", "train")
        table.loc[table["domain"].isin(["background/Hebrew", "background/Mkhedruli_(Georgian)"]), "split"] = (
            "validation"
        )
        made = cls(
            settings, torch.from_numpy(np.concatenate(images)), table, EpisodeTable(*np.zeros((2, 1, 1, 1), int))
        )
        return replace(made, validation=made.episodes("validation", settings.train.select_on))

    def episodes(self, split: str, setting: str) -> EpisodeTable:
        """The fixed episodes of a split, as the split stage draws them."""
        own = self.settings.episodes
        pool = self.classes[self.classes["split"] == split]
        count = own.validation if split == "validation" else own.test
        rows = draw(pool, setting, count, own.n_query, f"{self.settings.seed}/{split}/{setting}")
        shots = rows.shape[2] - own.n_query
        return EpisodeTable(rows[:, :, :shots], rows[:, :, shots:])

    def trainer(self, name: str, device: torch.device, folder: Path, on_host: bool = False, **changes: Any) -> Trainer:
        """A trainer of one method, whose images lie on the device or on the host."""
        training = self.classes[self.classes["split"] == "train"]
        encoding = kind_of(self.settings).fitted(self.examples[spread_rows(training, SAMPLE)].numpy())
        learner = Learner.create(name, self.settings, encoding)
        images = self.examples if on_host else self.examples.to(device)
        made = Trainer(
            learner=replace(learner, params=learner.params.to(device)),
            examples=images,
            sampler=EpisodeSampler.for_training(training, self.settings.train, encoding.kind.views, images.device),
            validation=self.validation,
            settings=self.settings.train,
            seed=self.settings.seed,
            checkpoint=folder / f"{name}.safetensors",
            fingerprint="benchmark",
            code="",
        )
        return replace(made, **changes)

    def bank(self, template: Trainer, folder: Path) -> BankTrainer:
        """The trainer of a whole bank."""
        return BankTrainer(template, self.classes, previous=folder / "model")


def packed_of(archive: Path, kind: Kind, names: list[str]) -> np.ndarray:
    """Images of an archive as they are packed, in the order of their names."""
    content = dict(read_archive(archive, set(names)))
    return np.stack([kind.pack(kind.decode(content[name])) for name in names])  # type: ignore[arg-type]


def example(trainer: Trainer) -> tuple[Params, Episodes]:
    """Weights away from zeros and ones, where a mistake would not show, and a meta-batch; on the trainer's device."""
    generator = torch.Generator(trainer.learner.device).manual_seed(1)
    params = trainer.learner.params
    further = trainer.learner.method.training_weights(generator, trainer.sampler.classes)
    weights = {
        name: weight + 0.05 * torch.randn(weight.shape, generator=generator, device=weight.device)
        for name, weight in (params.weights | further).items()
    }
    return replace(params, weights=weights), trainer.draw(generator)


def gradients(method: Method, params: Params, episodes: Episodes) -> tuple[float, Tensor]:
    """The loss, and its gradient as one vector, both in float64 on the CPU."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in params.weights.items()}
    total = 0.0
    for chunk in method.chunks(episodes):
        loss, _ = method.loss(replace(params, weights=leaves), chunk)
        (loss * len(chunk) / len(episodes)).backward()
        total += float(loss.detach()) * len(chunk) / len(episodes)
    known = [leaf.grad for leaf in leaves.values() if leaf.grad is not None]
    return total, torch.cat([each.flatten().double().cpu() for each in known])


def moved(episodes: Episodes, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Episodes:
    """The same on another device; what is floating in another type."""
    tensors = {key: value for key, value in vars(episodes).items() if isinstance(value, Tensor)}
    return replace(
        episodes, **{k: v.to(device=device, dtype=dtype if v.is_floating_point() else None) for k, v in tensors.items()}
    )
