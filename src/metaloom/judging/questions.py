"""Fresh questions: episodes of classes that neither model has seen, as many of each domain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from metaloom.config import DOMAIN_SUFFIX, Setting
from metaloom.errors import MetaloomError
from metaloom.judging.side import Side
from metaloom.system.plural import several
from metaloom.tasks import EpisodeTable
from metaloom.tasks.episodes import draw

MOST = 200  # examples of a class, evenly spread: bounds memory
ALL = "all domains"  # the one that stands for all, where none is large enough by itself


@dataclass(frozen=True)
class Pool:
    """Classes that may be asked about.

    Args:
        examples: packed, those of these classes alone.
        classes: class, domain, split ("test"), first, count; rows of `examples`.
        content: SHA-256 of each example.
    """

    examples: Shaped[np.ndarray, "item ..."]
    classes: pd.DataFrame
    content: list[str]


def pool(champion: Side, challenger: Side) -> Pool:
    """Test classes of the challenger's data, and of the champion's those that the challenger's lack.

    Left out is what either was trained or selected on, by name, by domain and by content: under another name, too.

    Raises:
        MetaloomError: fewer than two classes are left.
    """
    known = champion.contents | challenger.contents
    of_sides: list[tuple[Side, pd.DataFrame]] = []
    for side, other in ((challenger, champion), (champion, challenger)):
        rows = _unseen(side, other, known)
        if side is champion:
            there = set(challenger.items["class"]), set(challenger.items["sha256"])
            moved = set(rows.loc[rows["sha256"].isin(there[1]), "class"]) | there[0]
            rows = rows[~rows["class"].isin(moved)]
        of_sides.append((side, rows))
    if sum(rows["class"].nunique() for _, rows in of_sides) < 2:
        raise MetaloomError(
            f"no classes are left that neither {champion.name} nor {challenger.name} has been trained or selected on: "
            "add classes to test (split.test in params.yaml)"
        )
    return pool_of(of_sides, MOST)


def pool_of(of_sides: list[tuple[Side, pd.DataFrame]], most: int) -> Pool:
    """The pool of some examples of each class, evenly spread.

    Args:
        of_sides: whose examples they are, and rows of the item table.
        most: examples of a class; where it has fewer, all are taken.
    """
    parts, tables, content, first = [], [], [], 0
    for side, rows in of_sides:
        for name, own in rows.groupby("class", sort=True):
            own = own.iloc[evenly(len(own), most)]
            tables.append((name, own["domain"].iloc[0], "test", first, len(own)))
            parts.append(np.asarray(side.examples[own["row"].to_numpy()]))
            content += own["sha256"].tolist()
            first += len(own)
    classes = pd.DataFrame(tables, columns=["class", "domain", "split", "first", "count"])
    return Pool(np.concatenate(parts), classes, content)


def evenly(count: int, most: int) -> Int[np.ndarray, " place"]:
    """Places in a list, evenly spread: at most so many."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def _unseen(side: Side, other: Side, known: set[str]) -> pd.DataFrame:
    """Examples of the test classes of a side that are in `known` under no name, and that the other does not owe."""
    tests = side.classes.loc[side.classes["split"] == "test", ["class", "domain"]]
    names = [name for name, domain in tests.itertuples(index=False) if not other.owes(name, domain)]
    rows = side.items[side.items["class"].isin(names)]
    return rows[~rows["sha256"].isin(known)]


@dataclass(frozen=True)
class Questions:
    """What both are asked.

    Args:
        pool: of classes.
        n_way, n_shot, n_query: of each episode.
        domains: that have enough classes; those of one episode are of one domain.
        seed: of all draws.
    """

    pool: Pool
    n_way: int
    n_shot: int
    n_query: int
    domains: list[str]
    seed: str

    @classmethod
    def of(cls, pool: Pool, setting: Setting, n_query: int, seed: str) -> Questions:
        """With the ways of the setting, or the most that half of the domains have.

        Raises:
            MetaloomError: no two classes have enough examples.
        """
        needed = setting.n_shot + n_query
        large = pool.classes[pool.classes["count"] >= needed]
        if len(large) < 2:
            raise MetaloomError(
                f"of the {several(len(pool.classes), 'class', 'classes')} that neither model has seen, fewer than two "
                f"have {needed} examples ({setting.n_shot} support + {n_query} query): lower the shots or "
                "episodes.n_query, or add data"
            )
        sizes = large.groupby("domain").size()
        sizes = sizes[sizes > 1]
        if sizes.empty:
            return cls(pool, min(setting.n_way, len(large)), setting.n_shot, n_query, [ALL], seed)
        n_way = min(setting.n_way, int(sizes.sort_values(ascending=False).iloc[(len(sizes) - 1) // 2]))
        return cls(pool, n_way, setting.n_shot, n_query, sorted(sizes.index[sizes >= n_way]), seed)

    @property
    def setting(self) -> str:
        """Such as 5w1s_domain."""
        return f"{self.n_way}w{self.n_shot}s" + ("" if self.domains == [ALL] else DOMAIN_SUFFIX)

    @cached_property
    def asked(self) -> pd.DataFrame:
        """The classes that may be asked about."""
        classes = self.pool.classes
        large = classes["count"] >= self.n_shot + self.n_query
        return classes[large if self.domains == [ALL] else large & classes["domain"].isin(self.domains)]

    @cached_property
    def version(self) -> str:
        """A name for these very classes and examples."""
        hashed = sha256(self.setting.encode())
        for name, first, count in self.asked[["class", "first", "count"]].itertuples(index=False):
            hashed.update("\n".join([name, *sorted(self.pool.content[first : first + count])]).encode())
        return hashed.hexdigest()[:12]

    def batch(self, number: int, rounds: int) -> EpisodeTable:
        """So many episodes of each domain, one domain after the other in each round; every batch has others."""
        drawn = np.stack([self._of_domain(domain, number, rounds) for domain in self.domains], axis=1)
        episodes = drawn.reshape(-1, *drawn.shape[2:])
        return EpisodeTable(episodes[:, :, : self.n_shot], episodes[:, :, self.n_shot :])

    def _of_domain(self, domain: str, number: int, rounds: int) -> Int[np.ndarray, "round way example"]:
        classes = self.asked if domain == ALL else self.asked[self.asked["domain"] == domain]
        return draw(classes, self.setting, rounds, self.n_query, f"{self.seed}/{self.version}/{domain}/{number}")
