"""Class splits: a domain is in one of them as a whole."""

from __future__ import annotations

import fnmatch
import hashlib

import numpy as np
import pandas as pd
from jaxtyping import Int

from metaloom.config import SPLITS, Domains, SplitSettings
from metaloom.errors import MetaloomError


def class_table(items: pd.DataFrame) -> pd.DataFrame:
    """One row per class: class, domain, first (row of its first item), count. Rows of a class are contiguous."""
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


def spread_rows(classes: pd.DataFrame, most: int) -> Int[np.ndarray, " row"]:
    """Rows of items of these classes, at most so many, evenly spread over them."""
    rows = np.concatenate([np.arange(f, f + n) for f, n in classes[["first", "count"]].itertuples(index=False)])
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
