"""How much data there is: the classes of each split, by domain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from metaloom.config import SPLITS
from metaloom.planning.budget import NO_BUDGET, Budget


@dataclass(frozen=True)
class Pool:
    """The classes of one split.

    Args:
        classes: their rows of the class table.
    """

    classes: pd.DataFrame

    def ways(self, examples: int, within: bool = False) -> int:
        """Classes with so many examples; those of the domain that has most of them where `within`."""
        large = self.classes[self.classes["count"] >= examples]
        return int(large.groupby("domain").size().max()) if within and len(large) else len(large)

    def of_one_domain(self, examples: int) -> bool:
        """Whether all classes with so many examples are: then questions within a domain are the same as any others."""
        return self.ways(examples, within=True) == self.ways(examples)

    @property
    def typical(self) -> int:
        """Examples that three quarters of the classes have."""
        return sorted(self.classes["count"])[len(self.classes) // 4]

    @property
    def domains(self) -> list[str]:
        """Their names, in the order of the table."""
        return list(self.classes["domain"].unique())

    def of_domain(self, domain: str) -> pd.DataFrame:
        """The rows of one domain."""
        return self.classes[self.classes["domain"] == domain]


@dataclass(frozen=True)
class Data:
    """All splits, and what an example is.

    Args:
        classes: the class table with its `split` column.
        views: as how many training classes each class counts.
        many: what several examples are called.
        shape: of one example as a network takes it.
        budget: how much work the run may be.
        rescaled: whether inputs of one fit of the encoding can be made of another's, see `Encoding.inputs_from`.
        variants: whether graphs with smaller weights can be made.
        without_encoder: whether there are examples that can be learned from without an encoder, beside it.
    """

    classes: pd.DataFrame
    views: int
    many: str
    shape: tuple[int, ...]
    budget: Budget = NO_BUDGET
    rescaled: bool = True
    variants: bool = True
    without_encoder: bool = False

    def pool(self, split: str) -> Pool:
        """One split; raises KeyError where it is none."""
        if split not in SPLITS:
            raise KeyError(split)
        return Pool(self.classes[self.classes["split"] == split])

    @property
    def asked(self) -> list[Pool]:
        """The splits that the fixed episodes are of."""
        return [self.pool("validation"), self.pool("test")]

    def ways(self, examples: int, scopes: Iterable[bool]) -> int:
        """Ways that episodes can have in each scope (within a domain or not), in validation and test alike."""
        return min(pool.ways(examples, within) for pool in self.asked for within in scopes)

    def training(self, examples: int) -> int:
        """Training classes with so many examples, each counted in every view."""
        return self.pool("train").ways(examples) * self.views
