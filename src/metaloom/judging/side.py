"""Champion and challenger, as their revisions have them in git and DVC."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from metaloom.config import PARAMS, Settings, load_settings
from metaloom.data.packed import EXAMPLES, ITEMS, KIND, OWN
from metaloom.errors import MetaloomError
from metaloom.learner import Learner
from metaloom.planning.deployment import draw_task
from metaloom.system.files import read_json
from metaloom.versioning.paths import Outputs
from metaloom.versioning.revisions import Revision

SEEN = ("train", "validation")  # splits that a model owes something to


@dataclass(frozen=True)
class Side:
    """One of the two, its files copied into `folder` as they are asked for.

    Args:
        name: that the user gave it.
        commit: its name in git.
        revision: its files.
        outputs: where the stages write.
        folder: of its own.
    """

    name: str
    commit: str
    revision: Revision
    outputs: Outputs
    folder: Path

    def learner(self, device: torch.device) -> Learner:
        """Its model: the method that validated best.

        Raises:
            MetaloomError: it is in neither DVC's cache nor a remote, or damaged.
        """
        return Learner.load(self._model, device)

    @cached_property
    def _model(self) -> Path:
        """The folder of its model."""
        found = read_json(self.get(f"{self.outputs.evaluation}/champion.json"))
        method = found.get("method") if isinstance(found, dict) else None
        if not isinstance(method, str):
            raise MetaloomError(f"champion.json of {self.name} is damaged: `dvc repro evaluate` there")
        return self.get(f"{self.outputs.models}/{method}")

    @cached_property
    def settings(self) -> Settings:
        """That it was made with, fitted to its data."""
        return load_settings(self.get(PARAMS), {}, self.get(self.outputs.plan))

    @cached_property
    def items(self) -> pd.DataFrame:
        """Its examples: row, class, domain, sha256."""
        return pd.read_parquet(self.get(f"{self.outputs.dataset}/{ITEMS}"))

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Its classes, with their split."""
        return pd.read_parquet(self.get(f"{self.outputs.splits}/classes.parquet"))

    @cached_property
    def kind(self) -> Any:
        """How its examples are packed: what a model takes."""
        return read_json(self.get(f"{self._packed}/{KIND}"))

    @cached_property
    def examples(self) -> np.ndarray:
        """Packed as its model takes them, memory-mapped."""
        return np.load(self.get(f"{self._packed}/{EXAMPLES}"), mmap_mode="c", allow_pickle=False)

    @cached_property
    def seen(self) -> set[str]:
        """Classes that its model was trained or selected on."""
        return set(self.classes.loc[self.classes["split"].isin(SEEN), "class"])

    @cached_property
    def trained(self) -> set[str]:
        """Classes that its model was trained on."""
        return set(self.classes.loc[self.classes["split"] == "train", "class"])

    def owes(self, name: str, domain: str) -> bool:
        """Whether its model was trained or selected on a class, or on the domain that the class would belong to."""
        if (self.classes["class"] == name).any():
            return name in self.seen
        splits = set(self.classes.loc[self.classes["domain"] == domain, "split"])
        return bool(splits) and "test" not in splits

    @cached_property
    def contents(self) -> set[str]:
        """SHA-256 of the examples of `seen`, and of those that its bundle has learned from."""
        support = draw_task(self.classes, self.settings.export, self.settings.seed).support
        rows = self.items["class"].isin(self.seen) | self.items["row"].isin(support)
        return set(self.items.loc[rows, "sha256"])

    def get(self, path: str) -> Path:
        """A copy of one of its files or folders.

        Raises:
            MetaloomError: it has no such file, or that is in neither DVC's cache nor a remote.
        """
        copy = self.folder / path
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            self.revision.get(path, copy)
        return copy

    @property
    def _packed(self) -> str:
        """Where its model finds examples: an encoder's rows, or what it takes where it does without the encoder."""
        embedded, dataset = self.outputs.known("embedded"), self.outputs.dataset
        if embedded is None or not self.revision.has(f"{embedded}/{KIND}"):
            return dataset
        if "encoder" in read_json(self._model / "learner.json")["input"]:
            return embedded
        own = f"{dataset}/{OWN}"
        return own if self.revision.has(f"{own}/{KIND}") else dataset


def check_alike(champion: Side, challenger: Side) -> None:
    """Raises MetaloomError unless one example goes into both models."""
    if champion.kind == challenger.kind:
        return
    one, other = (each.kind if isinstance(each.kind, dict) else {} for each in (champion, challenger))
    differing = sorted(key for key in one | other if one.get(key) != other.get(key))
    told = ", ".join(f"{key} {_short(one.get(key))} and {_short(other.get(key))}" for key in differing)
    raise MetaloomError(
        f"{champion.name} and {challenger.name} do not take the same examples ({told}): the same questions cannot be "
        "put to both; `metaloom promote --force` where that is meant"
    )


def _short(value: Any) -> str:
    if isinstance(value, dict):  # an encoder
        value = f"{value.get('name') or Path(str(value.get('file', '?'))).name} {str(value.get('sha256', ''))[:8]}"
    return "none" if value is None else str(value).strip()[:60]
