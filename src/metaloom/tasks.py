"""Class splits, and the fixed episodes that every learner answers."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from metaloom.config import DOMAIN_SUFFIX, SPLITS, Domains, EpisodeSettings, Setting, SplitSettings
from metaloom.errors import MetaloomError


def class_table(items: pd.DataFrame) -> pd.DataFrame:
    """One row a class: class, domain, first (row of its first item), count. Rows of a class are contiguous."""
    grouped = items.groupby("class", sort=False)
    table = grouped.agg(domain=("domain", "first"), first=("row", "min"), count=("row", "size"))
    return table.reset_index().sort_values("first", ignore_index=True)


def assign_splits(classes: pd.DataFrame, settings: SplitSettings, seed: int) -> pd.DataFrame:
    """Add a `split` column to the class table; a domain is in one split as a whole, or left out.

    Patterns come first, then shares of the classes, then "rest". For a share, domains are taken in an order
    that is a hash of their name and the seed, so that adding a domain hardly moves the others.

    Raises:
        MetaloomError: a domain in two splits, a pattern that matches none, an empty split.
    """
    sizes = classes.groupby("domain", sort=True).size()
    wanted: dict[str, Domains] = {name: getattr(settings, name) for name in SPLITS}
    split_of = _by_patterns(list(sizes.index), wanted)
    for name in ("test", "validation", "train"):
        share = wanted[name]
        if isinstance(share, float):
            split_of |= {domain: name for domain in _by_share(sizes, split_of, share, seed)}
    rest = [name for name in SPLITS if wanted[name] == "rest"]
    if len(rest) > 1:
        raise MetaloomError(f'params.yaml: split: only one of {", ".join(rest)} can be "rest"')
    split_of |= {domain: name for name in rest for domain in sizes.index if domain not in split_of}
    for name in SPLITS:
        if name not in split_of.values():
            raise MetaloomError(
                f"params.yaml: split.{name} ({wanted[name]}) leaves no domain for {name}: data/ has "
                f"{len(sizes)} domain(s), and each is in one split as a whole; add domains or change the split"
            )
    table = classes.assign(split=classes["domain"].map(split_of))
    return table.dropna(subset="split").reset_index(drop=True)[["class", "domain", "split", "first", "count"]]


def _by_patterns(domains: list[str], wanted: dict[str, Domains]) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for name, patterns in wanted.items():
        if not isinstance(patterns, list):
            continue
        for domain in _matching(domains, patterns, name):
            if domain in split_of:
                raise MetaloomError(
                    f"params.yaml: split: domain {domain} is in both {split_of[domain]} and {name}; "
                    f'exclude it from one of them with the pattern "!{domain}"'
                )
            split_of[domain] = name
    return split_of


def _matching(domains: list[str], patterns: list[str], name: str) -> list[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {domain for domain in domains if fnmatch.fnmatchcase(domain, pattern.removeprefix("!"))}
        if not hits:
            raise MetaloomError(
                f"params.yaml: split.{name}: {pattern!r} matches no domain; there are {', '.join(domains[:12])}"
                + (" …" if len(domains) > 12 else "")
            )
        chosen = chosen - hits if pattern.startswith("!") else chosen | hits
    return sorted(chosen)


def _by_share(sizes: pd.Series, taken: dict[str, str], share: float, seed: int) -> list[str]:
    """Free domains whose classes together make up about `share` of all: at most a fifth more, at least one."""
    limit, total, chosen = 1.2 * share * sizes.sum(), 0, []
    free = [domain for domain in sizes.index if domain not in taken]
    for domain in sorted(free, key=lambda domain: hashlib.sha256(f"{seed}/{domain}".encode()).digest()):
        if total + sizes[domain] <= limit:
            chosen.append(domain)
            total += sizes[domain]
        if total >= share * sizes.sum():
            break
    return chosen or sorted(free, key=lambda domain: sizes[domain])[:1]


def draw_fixed_episodes(classes: pd.DataFrame, settings: EpisodeSettings, seed: int) -> pd.DataFrame:
    """The validation and test episodes as a long table: split, setting, episode, way, role, row.

    Args:
        classes: the class table with its `split` column.
        settings: which settings, how many episodes and queries.
        seed: each split and setting draws from a generator of its own, so adding one changes no other.

    Raises:
        MetaloomError: a split has too few classes or examples; says the largest that works.
    """
    tables = []
    for split, episodes in (("validation", settings.validation), ("test", settings.test)):
        pool = classes[classes["split"] == split]
        for name in settings.names:
            rows = _draw(pool, name, episodes, settings.n_query, f"{seed}/{split}/{name}")
            tables.append(_long(rows, Setting.parse(name.removesuffix(DOMAIN_SUFFIX)).n_shot, split, name))
    return pd.concat(tables, ignore_index=True)


def _draw(
    pool: pd.DataFrame, name: str, episodes: int, n_query: int, seed: str
) -> Int[np.ndarray, "episode way example"]:
    setting = Setting.parse(name.removesuffix(DOMAIN_SUFFIX))
    within = name.endswith(DOMAIN_SUFFIX)
    groups = _eligible_groups(pool, name, setting, n_query, within)
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


def _eligible_groups(
    pool: pd.DataFrame, name: str, setting: Setting, n_query: int, within: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(first rows, counts) of the classes that one episode may mix: all of the split, or those of a domain."""
    split = pool["split"].iloc[0]
    needed = setting.n_shot + n_query
    large = pool[pool["count"] >= needed]
    if large.empty:
        raise MetaloomError(
            f"params.yaml: episodes: {name} needs {needed} examples a class ({setting.n_shot} support + {n_query} "
            f"query), but the largest {split} class has {pool['count'].max()}; lower the shots or episodes.n_query"
        )
    parts = [part for _, part in large.groupby("domain")] if within else [large]
    groups = [part for part in parts if len(part) >= setting.n_way]
    if not groups:
        most = max(len(part) for part in parts)
        where = f"the largest {split} domain" if within else f"the {split} split"
        remedy = "lower the ways or set episodes.within_domain to false" if within else "lower the ways"
        raise MetaloomError(
            f"params.yaml: episodes: {name} needs {setting.n_way} classes, but {where} has {most} with "
            f"{needed} examples; the largest that works is {most} ways: {remedy}, or add data"
        )
    return [(part["first"].to_numpy(), part["count"].to_numpy()) for part in groups]


def _long(rows: Int[np.ndarray, "episode way example"], n_shot: int, split: str, name: str) -> pd.DataFrame:
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


def spread_rows(classes: pd.DataFrame, most: int) -> Int[np.ndarray, " row"]:
    """Rows of items of these classes, at most so many, evenly spread over them."""
    rows = np.concatenate([np.arange(f, f + n) for f, n in classes[["first", "count"]].itertuples(index=False)])
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


@dataclass(frozen=True)
class EpisodeTable:
    """Fixed episodes of one setting; entries are rows of the data set, labels are the position of the way."""

    support: Int[np.ndarray, "episode way n_shot"]
    query: Int[np.ndarray, "episode way n_query"]

    def __len__(self) -> int:
        return len(self.support)

    def first(self, episodes: int) -> EpisodeTable:
        return EpisodeTable(self.support[:episodes], self.query[:episodes])


def load_episodes(splits: str | Path, split: str, settings: Sequence[str]) -> dict[str, EpisodeTable]:
    """The fixed episodes of a split, by setting, from the folder that the split stage writes.

    Raises:
        MetaloomError: the table is absent, or has no episodes of a setting.
    """
    path = Path(splits) / "episodes.parquet"
    if not path.is_file():
        raise MetaloomError(f"{path} not found: `dvc repro split` makes it")
    table = pd.read_parquet(path, filters=[("split", "==", split)])
    known = list(table["setting"].unique())
    missing = [name for name in settings if name not in known]
    if missing:
        raise MetaloomError(f"{path} has no {split} episodes of {missing[0]}; it has {', '.join(known)}")
    return {name: _table(table[table["setting"] == name]) for name in settings or known}


def _table(long: pd.DataFrame) -> EpisodeTable:
    episodes, n_way = long["episode"].max() + 1, long["way"].max() + 1
    support, query = (
        long.loc[long["role"] == role, "row"].to_numpy(np.int64).reshape(episodes, n_way, -1)
        for role in ("support", "query")
    )
    return EpisodeTable(support, query)
