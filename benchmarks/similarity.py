"""Training tasks whose classes look alike, or unlike; and how much they do."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.data.packed import Dataset
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training.bank.windows import describe_domains

POOL = 8  # times the ways: so many classes are drawn, and those most alike or unlike are taken


def similarities(packed: Dataset, training: pd.DataFrame) -> Float[Tensor, "class class"]:
    """Cosines between the classes' mean embeddings, about the mean of all, by a fixed network with random weights."""
    names = [f"{index:05}" for index in range(len(training))]
    described = describe_domains(packed.kind, torch.from_numpy(packed.examples), training.assign(domain=names))
    means = torch.from_numpy(np.stack([described[name] for name in names]))
    directions = F.normalize(means - means.mean(dim=0))
    return directions @ directions.mT


@dataclass(frozen=True)
class SimilaritySampler(EpisodeSampler):
    """Draws a pool of classes, and takes the neighbours of its first one, or those that are far from each other."""

    similarity: Float[Tensor, "class class"] | None = None
    alike: bool = True

    @classmethod
    def of_plain(cls, plain: EpisodeSampler, similarity: Float[Tensor, "class class"], alike: bool) -> EpisodeSampler:
        own = {each.name: getattr(plain, each.name) for each in fields(plain)}
        return cls(**own, similarity=similarity, alike=alike)

    def sample(
        self, tasks: int, n_way: int, examples: int, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "task way example"], Int[Tensor, "task way"], Int[Tensor, "task way"]]:
        pool = min(POOL * n_way, self.classes)
        rows, views, classes = super().sample(tasks, pool, examples, generator)
        taken = torch.stack([self._taken(own, n_way) for own in classes])
        return (
            rows.gather(1, taken[..., None].expand(-1, -1, examples)),
            views.gather(1, taken),
            classes.gather(1, taken),
        )

    def _taken(self, classes: Int[Tensor, " pool"], n_way: int) -> Int[Tensor, " way"]:
        assert self.similarity is not None
        between = self.similarity[classes][:, classes]
        if self.alike:
            return between[0].topk(n_way).indices
        taken = [0]
        nearest = between[0].clone()
        for _ in range(n_way - 1):
            nearest[taken[-1]] = torch.inf
            taken.append(int(nearest.argmin()))
            nearest = torch.maximum(nearest, between[taken[-1]])
        return torch.tensor(taken)


def mean_similarity(sampler: EpisodeSampler, similarity: Float[Tensor, "class class"], n_way: int = 20) -> float:
    """Of two classes of one task."""
    _, _, classes = sampler.sample(50, n_way, 2, torch.Generator().manual_seed(0))
    between = torch.stack([similarity[own][:, own] for own in classes])
    return float((between.sum(dim=(1, 2)) - n_way).mean() / (n_way * (n_way - 1)))
