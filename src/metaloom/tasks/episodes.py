"""Fixed episodes: drawn once, the same questions for every learner."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from metaloom.config import DOMAIN_SUFFIX, SPLITS, EpisodeSettings, Setting
from metaloom.errors import MetaloomError
from metaloom.system.files import required

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EpisodeTable:
    """Fixed episodes of one setting; entries are rows of the data set, labels are the position of the way.

    Args:
        support: examples to learn from.
        query: examples to answer.
        shots: how many labelled examples each way has, where they differ: the rows of `support` beyond them have no
            part.
    """

    support: Int[np.ndarray, "episode way n_shot"]
    query: Int[np.ndarray, "episode way n_query"]
    shots: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.support)

    @property
    def n_way(self) -> int:
        """Classes of an episode."""
        return self.support.shape[1]

    @property
    def labels(self) -> Int[np.ndarray, " support"]:
        """The way of each of an episode's `support_rows`."""
        return np.arange(self.n_way).repeat(self.shots or self.support.shape[2])

    @property
    def answers(self) -> Int[np.ndarray, " query"]:
        """The way of each of an episode's `query_rows`."""
        return np.arange(self.n_way).repeat(self.query.shape[2])

    @property
    def support_rows(self) -> Int[np.ndarray, "episode support"]:
        """Rows of the support sets, way by way."""
        shots = np.array(self.shots or (self.support.shape[2],) * self.n_way)
        return self.support[:, np.arange(self.support.shape[2]) < shots[:, None]]

    @property
    def query_rows(self) -> Int[np.ndarray, "episode query"]:
        """Rows of the queries, way by way."""
        return self.query.reshape(len(self), -1)

    @property
    def rows(self) -> Int[np.ndarray, " row"]:
        """All of them."""
        return np.concatenate([self.support_rows.ravel(), self.query_rows.ravel()])

    def first(self, episodes: int) -> EpisodeTable:
        """The first so many episodes."""
        return replace(self, support=self.support[:episodes], query=self.query[:episodes])

    def with_labels(self, *shots: int) -> EpisodeTable:
        """The same episodes with the first so many labelled examples of each class, or of each class its own number."""
        uneven = shots if len(set(shots)) > 1 else None
        return EpisodeTable(self.support[:, :, : max(shots)], self.query, uneven)

    def with_ways(self, n_way: int) -> EpisodeTable:
        """The same episodes with the first so many classes."""
        return EpisodeTable(self.support[:, :n_way], self.query[:, :n_way])


def load_episodes(splits: str | Path, split: str, settings: Sequence[str]) -> dict[str, EpisodeTable]:
    """The fixed episodes of a split, by setting, from the folder that the split stage writes.

    Raises:
        MetaloomError: the table is absent, or has no episodes of a setting.
    """
    import pandas as pd

    path = required(Path(splits) / "episodes.parquet", made_by="split")
    table = pd.read_parquet(path, filters=[("split", "==", split)])
    known = list(table["setting"].unique())
    missing = [name for name in settings if name not in known]
    if missing:
        raise MetaloomError(f"{path} has no {split} episodes of {missing[0]}; it has {', '.join(known)}")
    return {name: as_table(table[table["setting"] == name]) for name in settings or known}


def as_table(long: pd.DataFrame) -> EpisodeTable:
    """The episodes of one setting from the long form."""
    episodes, n_way = long["episode"].max() + 1, long["way"].max() + 1
    support, query = (
        long.loc[long["role"] == role, "row"].to_numpy(np.int64).reshape(episodes, n_way, -1)
        for role in ("support", "query")
    )
    return EpisodeTable(support, query)


def draw_fixed_episodes(classes: pd.DataFrame, settings: EpisodeSettings, seed: int) -> pd.DataFrame:
    """The validation and test episodes as a long table: split, setting, episode, way, role, row.

    Args:
        classes: the class table with its `split` column.
        settings: which settings, how many episodes and queries.
        seed: each split and setting draws from a generator of its own, so adding one changes no other.

    Raises:
        MetaloomError: a split has too few classes or examples; says the largest that works.
    """
    import pandas as pd

    tables = []
    for split, episodes in (("validation", settings.validation), ("test", settings.test)):
        pool = classes[classes["split"] == split]
        for name in settings.names:
            rows = draw(pool, name, episodes, settings.n_query, f"{seed}/{split}/{name}")
            tables.append(as_long(rows, Setting.parse(name.removesuffix(DOMAIN_SUFFIX)).n_shot, split, name))
    return pd.concat(tables, ignore_index=True)


def draw(
    pool: pd.DataFrame, name: str, episodes: int, n_query: int, seed: str, section: str = "episodes"
) -> Int[np.ndarray, "episode way example"]:
    """Rows of so many episodes of a setting, from the classes of one split; `section` of params.yaml asks for them."""
    setting = Setting.parse(name.removesuffix(DOMAIN_SUFFIX))
    within = name.endswith(DOMAIN_SUFFIX)
    groups = eligible_groups(pool, name, setting, n_query, within, section)
    rng = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest()))
    weights = np.array([len(first) for first, _ in groups], dtype=float)
    drawn = np.empty((episodes, setting.n_way, setting.n_shot + n_query), dtype=np.int64)
    for episode in drawn:
        first, count = groups[rng.choice(len(groups), p=weights / weights.sum())]
        ways = rng.choice(len(first), setting.n_way, replace=False)
        order = rng.random((setting.n_way, count.max()))
        order[np.arange(count.max()) >= count[ways][:, None]] = 2  # no such example: sorts last
        episode[:] = first[ways][:, None] + order.argsort(axis=1)[:, : episode.shape[1]]
    return drawn


def eligible_groups(
    pool: pd.DataFrame, name: str, setting: Setting, n_query: int, within: bool, section: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(first rows, counts) of the classes that one episode may mix: all of the split, or those of a domain.

    Raises:
        MetaloomError: there are too few classes, or too few examples of each; the message says what works.
    """
    split = pool["split"].iloc[0]
    needed = setting.n_shot + n_query
    large = pool[pool["count"] >= needed]
    if large.empty:
        shots = pool["count"].max() - n_query
        fits = f"the largest that works is {shots} shots; lower the shots or" if shots > 0 else "lower"
        raise MetaloomError(
            f"params.yaml: {section}: {name} needs {needed} examples per class ({setting.n_shot} support + {n_query} "
            f"query), but the largest {split} class has {pool['count'].max()}: {fits} episodes.n_query, or add data"
        )
    parts = [part for _, part in large.groupby("domain")] if within else [large]
    groups = [part for part in parts if len(part) >= setting.n_way]
    if not groups:
        most = max(len(part) for part in parts)
        where = f"the largest {split} domain" if within else f"the {split} split"
        remedy = "lower the ways or set episodes.within_domain to false" if within else "lower the ways"
        raise MetaloomError(
            f"params.yaml: {section}: {name} needs {setting.n_way} classes, but {where} has {most} with "
            f"{needed} examples; the largest that works is {most} ways: {remedy}, or add data"
        )
    return [(part["first"].to_numpy(), part["count"].to_numpy()) for part in groups]


def as_long(rows: Int[np.ndarray, "episode way example"], n_shot: int, split: str, name: str) -> pd.DataFrame:
    """Episodes as a table with a row per example."""
    import pandas as pd

    episodes, n_way, examples = rows.shape
    episode, way, example = (axis.ravel() for axis in np.indices((episodes, n_way, examples), dtype=np.int32))
    return pd.DataFrame(
        {
            "split": pd.Categorical.from_codes(np.full(rows.size, SPLITS.index(split)), list(SPLITS)),
            "setting": pd.Categorical([name] * rows.size),
            "episode": episode,
            "way": way,
            "role": pd.Categorical.from_codes((example >= n_shot).astype(int), ["support", "query"]),
            "row": rows.ravel().astype(np.int32),
        }
    ).astype({"split": str, "setting": str, "role": str})
