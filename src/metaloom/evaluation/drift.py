"""Two versions of a data set: what was added, removed and relabelled, which domains moved, how new new classes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.metrics import pairwise_distances

PERMUTATIONS = 999
MOST = 300  # examples of a domain and version


@dataclass(frozen=True)
class DataChange:
    """Between two tables of items (class, domain, sha256).

    Args:
        domains, classes: names that only one version has, by "added" and "removed".
        examples: number of examples by domain: added, removed, relabelled.
        relabelled: class before, class now, and how many examples, most first.
    """

    domains: dict[str, list[str]]
    classes: dict[str, list[str]]
    examples: pd.DataFrame
    relabelled: list[tuple[str, str, int]]

    @property
    def none(self) -> bool:
        """Whether nothing changed."""
        return self.examples.empty and not any([*self.domains.values(), *self.classes.values()])


def changes(before: pd.DataFrame, now: pd.DataFrame) -> DataChange:
    """What differs between two versions' items: an example is the same where its SHA-256 is, and it is relabelled where
    a class that had it has it no more and another has it instead."""
    old, new = (table[["sha256", "class", "domain"]].drop_duplicates() for table in (before, now))
    pairs = old.merge(new, on=["sha256", "class"], how="outer", suffixes=("_old", "_new"), indicator=True)
    gone, come = (pairs[pairs["_merge"] == side] for side in ("left_only", "right_only"))
    moved = gone.merge(come, on="sha256", suffixes=("_gone", "_come"))
    added = come[~come["sha256"].isin(moved["sha256"])]["domain_new"].value_counts()
    removed = gone[~gone["sha256"].isin(moved["sha256"])]["domain_old"].value_counts()
    counts = {"added": added, "removed": removed, "relabelled": moved["domain_new_come"].value_counts()}
    examples = pd.DataFrame(counts).fillna(0).astype(int).sort_index()
    relabelled = moved.groupby(["class_gone", "class_come"]).size().sort_values(ascending=False)
    return DataChange(
        domains=_only(before["domain"], now["domain"]),
        classes=_only(before["class"], now["class"]),
        examples=examples,
        relabelled=[(str(one), str(other), int(n)) for (one, other), n in relabelled.items()],  # type: ignore[misc]
    )


def _only(before: pd.Series, now: pd.Series) -> dict[str, list[str]]:
    old, new = set(before), set(now)
    return {"added": sorted(new - old), "removed": sorted(old - new)}


@dataclass(frozen=True)
class Moved:
    """How far a domain's mean embedding has moved, in units of its spread before (root mean square distance from the
    mean); `p`: how often as far by chance, where examples are shared out to the versions at random."""

    domain: str
    distance: float
    p: float


def moved(
    domain: str,
    before: Float[np.ndarray, "example embed"],
    now: Float[np.ndarray, "other_example embed"],
    seed: int = 0,
) -> Moved:
    """A domain's examples in two versions: a permutation test of how far apart the means of their embeddings are."""
    spread = float(np.sqrt(((before - before.mean(axis=0)) ** 2).sum(axis=1).mean())) or 1.0
    both = np.concatenate([before, now])
    observed = float(np.linalg.norm(before.mean(axis=0) - now.mean(axis=0)))
    rng = np.random.default_rng(seed)
    first = np.zeros((PERMUTATIONS, len(both)))
    first[:, : len(before)] = 1
    first = rng.permuted(first, axis=1)
    gaps = first / len(before) - (1 - first) / len(now)
    chance = np.linalg.norm(gaps @ both, axis=1)
    p = (1 + (chance >= observed - 1e-9).sum()) / (1 + PERMUTATIONS)
    return Moved(domain, observed / spread, float(p))


def newness(
    new: Float[np.ndarray, "new embed"],
    training: Float[np.ndarray, "class embed"],
    measured: Float[np.ndarray, " test"],
) -> dict[str, Any]:
    """Whether new classes look like anything seen in training.

    Args:
        new: prototypes of the new classes.
        training: of the training classes.
        measured: `relative` distances (`metaloom.evaluation.space.nearness`) of the test classes on which the figures
        stand.

    Returns:
        relative: of each new class, nearest: index of its training class, beyond: the share of the new classes that are
        farther from training than 95% of the test classes.
    """
    between = pairwise_distances(training)
    np.fill_diagonal(between, np.inf)
    far = pairwise_distances(new, training)
    relative = far.min(axis=1) / np.median(between.min(axis=1))
    limit = np.quantile(measured, 0.95) if len(measured) else np.nan
    return {
        "relative": relative.tolist(),
        "nearest": far.argmin(axis=1).tolist(),
        "limit": float(limit),
        "beyond": float((relative > limit).mean()),
    }
