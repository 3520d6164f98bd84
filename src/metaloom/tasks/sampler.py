"""Episodes that are drawn while training."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from metaloom.config import TrainSettings
from metaloom.tasks.distinct import distinct

SMALL_SPLIT, SMALL_CLASS = 4096, 512  # classes, examples of a class: up to here all are put in random order


@dataclass(frozen=True)
class EpisodeSampler:
    """Draws training episodes on the device, in a time that their number of classes and examples do not change
    (within domains it grows with the classes of the largest).

    Args:
        first: first row of each class.
        count: number of items of each class.
        largest: the greatest of them.
        views: as how many classes each class counts, seen in so many ways.
        domain: number of each class's domain, from 0; None where the class table has no domains.
        within_domain: share of the tasks whose classes are of one domain in one view, or of as few as have enough.
    """

    first: Int[Tensor, "class"]
    count: Int[Tensor, "class"]
    largest: int
    views: int
    domain: Int[Tensor, " class"] | None = None
    within_domain: float = 0.0

    @classmethod
    def of(
        cls, classes: pd.DataFrame, examples: int, views: int, device: torch.device, within_domain: float = 0.0
    ) -> EpisodeSampler:
        """A sampler over the classes that have at least `examples` items."""
        large = classes[classes["count"] >= examples]
        first, count = (torch.tensor(large[name].to_numpy(), device=device) for name in ("first", "count"))
        codes = torch.tensor(pd.factorize(large["domain"])[0], device=device) if "domain" in large else None
        return cls(first, count, int(large["count"].max()) if len(large) else 0, views, codes, within_domain)

    @classmethod
    def for_training(
        cls, classes: pd.DataFrame, settings: TrainSettings, views: int, device: torch.device
    ) -> EpisodeSampler:
        """A sampler as the section `train` wants it; `views` as in the class."""
        return cls.of(classes, settings.examples, views, device, settings.within_domain)

    @property
    def classes(self) -> int:
        """How many there are; class c is class c % len(first) of the table, in view c // len(first)."""
        return len(self.first) * self.views

    @property
    def domains(self) -> Int[Tensor, " viewed_class"] | None:
        """The domain of each of `classes`; a class stays in its domain in every view."""
        return None if self.domain is None else self.domain.repeat(self.views)

    def sample(
        self, tasks: int, n_way: int, examples: int, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "task way example"], Int[Tensor, "task way"], Int[Tensor, "task way"]]:
        """Rows of the drawn items, the view of each way, and which of `classes` it is."""
        device = self.first.device
        pools = torch.full((tasks,), self.classes, device=device)
        chosen = distinct(n_way, pools, self.classes, SMALL_SPLIT, generator)
        if self.within_domain:
            within = torch.rand(tasks, 1, generator=generator, device=device) < self.within_domain
            chosen = torch.where(within, self._of_few_domains(tasks, n_way, generator), chosen)
        views, base = chosen // len(self.first), chosen % len(self.first)
        order = distinct(examples, self.count[base], self.largest, SMALL_CLASS, generator)
        return self.first[base][..., None] + order, views, chosen

    def _of_few_domains(self, tasks: int, n_way: int, generator: torch.Generator | None) -> Int[Tensor, "task {n_way}"]:
        """Classes of one domain in one view; where it has too few, all of it and the rest of another, and so on."""
        members, reached = self._members
        pools = torch.full((tasks,), len(members), device=members.device)
        groups = distinct(bisect_left(reached, n_way) + 1, pools, len(members), SMALL_SPLIT, generator)
        candidates = members[groups]
        order = torch.rand(candidates.shape, generator=generator, device=members.device)
        order += torch.arange(candidates.shape[1], device=members.device)[:, None]
        order.masked_fill_(candidates < 0, torch.inf)
        return candidates.flatten(1).gather(1, order.flatten(1).topk(n_way, largest=False).indices)

    @cached_property
    def _members(self) -> tuple[Int[Tensor, "group most"], list[int]]:
        """The classes of each domain in each view, filled up with -1; and how many classes one such group is sure to
        have, two of them, and so on."""
        assert self.domain is not None, "a class table without domains"
        view = torch.arange(self.classes, device=self.domain.device) // len(self.domain)
        group = self.domain.repeat(self.views) + (self.domain.max() + 1) * view
        sizes, order = group.bincount(), group.argsort(stable=True)
        place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[group[order]]
        members = order.new_full((len(sizes), int(sizes.max())), -1)
        members[group[order], place] = order
        return members, sizes.sort().values.cumsum(0).tolist()
