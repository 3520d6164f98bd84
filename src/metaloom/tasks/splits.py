"""Class splits: a domain is in one of them as a whole, or a class where there are too few domains."""

from __future__ import annotations

import fnmatch
import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from metaloom.config import SPLITS, Domains, SplitSettings
from metaloom.errors import MetaloomError
from metaloom.system.plural import several

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 2  # classes of a split, and of one domain at least in those that are asked about
USUAL_WAYS = 5  # classes that a question has, for which such a split should be enough

Assigned = dict[str, str]  # the split of each domain, or of each class


def class_table(items: pd.DataFrame) -> pd.DataFrame:
    """One row per class: class, domain, first (row of its first item), count, given (the split in data/, or "").

    Rows of a class are contiguous.
    """
    items = items.assign(split=items["split"].fillna("") if "split" in items else "")
    grouped = items.groupby("class", sort=False)
    table = grouped.agg(
        domain=("domain", "first"), first=("row", "min"), count=("row", "size"), given=("split", "first")
    )
    return table.reset_index().sort_values("first", ignore_index=True)


def unit_of(classes: pd.DataFrame, settings: SplitSettings) -> str:
    """What is in one split as a whole: "domain" or "class"; classes where there are fewer domains than splits, or where
    data/ itself has the classes of one domain in several splits."""
    if settings.by != "auto":
        return settings.by
    domains = classes.groupby("domain")["given"].nunique()
    return "domain" if len(domains) >= len(SPLITS) and domains.max() == 1 else "class"


def assign_splits(
    classes: pd.DataFrame, settings: SplitSettings, seed: int, kept: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Add a `split` column to the class table; a domain or class is in one split as a whole, or left out.

    Patterns come first, then the splits that data/ itself names, then where a domain or class was before, then shares
    of the classes, then "rest". For a share, domains or classes are taken in an order that is a hash of their name and
    the seed, so that adding one hardly moves the others; validation and test get two classes of one domain, where what
    is free allows it: no task could be handed off from a class alone.

    Args:
        classes: from `class_table`.
        settings: which split has what.
        seed: for the shares.
        kept: splits of domains or classes that stay in them.

    Raises:
        MetaloomError: a domain or class in two splits, a pattern that matches none, an empty split.
    """
    unit = unit_of(classes, settings)
    sizes, domain_of = classes.groupby(unit, sort=True).size(), classes.set_index("class")["domain"]
    wanted: dict[str, Domains] = {name: getattr(settings, name) for name in SPLITS}
    given = classes.loc[classes["given"] != ""].groupby(unit)["given"].first().to_dict()
    before = {each: split for each, split in (kept or {}).items() if each in sizes.index}
    split_of: Assigned = before | given | _by_patterns(list(sizes.index), wanted, unit)
    for name in ("test", "validation", "train"):
        share = wanted[name]
        if isinstance(share, float):
            draw, among = (_domains_of_share, sizes) if unit == "domain" else (_classes_of_share, domain_of)
            split_of |= dict.fromkeys(draw(among, split_of, name, share, seed), name)
    rest = [name for name in SPLITS if wanted[name] == "rest"]
    if len(rest) > 1:
        raise MetaloomError(f'params.yaml: split: only one of {", ".join(rest)} can be "rest"')
    split_of |= {each: name for name in rest for each in sizes.index if each not in split_of}
    for name in SPLITS:
        if name not in split_of.values():
            raise MetaloomError(_empty(name, wanted[name], unit, len(sizes)))
    table = classes.assign(split=classes[unit].map(split_of))
    return table.dropna(subset="split").reset_index(drop=True)[["class", "domain", "split", "first", "count"]]


def _empty(name: str, wanted: Domains, unit: str, there: int) -> str:
    if unit == "class" and there < FEWEST * len(SPLITS):
        found = several(there, "class", "classes")
        each = f"{FEWEST} to learn from, {FEWEST} to choose by and {FEWEST} to ask about"
        return f"data/ has {found}, and a run needs {FEWEST * len(SPLITS)} or more ({each}): add classes"
    if unit == "domain":
        more = "and each is in one split as a whole; add domains, change the split, or set split.by to class"
    else:
        more = f"and a split takes {FEWEST} of them or more; add classes or change the split"
    found = several(there, unit, "classes" if unit == "class" else "")
    return f"params.yaml: split.{name} ({wanted}) leaves no {unit} for {name}: data/ has {found}, {more}"


def _by_patterns(units: list[str], wanted: dict[str, Domains], unit: str) -> Assigned:
    split_of: Assigned = {}
    for name, patterns in wanted.items():
        if not isinstance(patterns, list):
            continue
        for each in _matching(units, patterns, name, unit):
            if each in split_of:
                raise MetaloomError(
                    f"params.yaml: split: {unit} {each} is in both {split_of[each]} and {name}; "
                    f'exclude it from one of them with the pattern "!{each}"'
                )
            split_of[each] = name
    return split_of


def _matching(units: list[str], patterns: list[str], name: str, unit: str) -> list[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {each for each in units if fnmatch.fnmatchcase(each, pattern.removeprefix("!"))}
        if not hits:
            raise MetaloomError(
                f"params.yaml: split.{name}: {pattern!r} matches no {unit}; there are {', '.join(units[:12])}"
                + (" …" if len(units) > 12 else "")
            )
        chosen = chosen - hits if pattern.startswith("!") else chosen | hits
    return sorted(chosen)


def _domains_of_share(sizes: pd.Series, taken: Assigned, name: str, share: float, seed: int) -> list[str]:
    """Free domains with which the split has about `share` of all classes: at most a fifth more, at least one domain."""
    already = [domain for domain, split in taken.items() if split == name]
    free = _shuffled([domain for domain in sizes.index if domain not in taken], seed)
    chosen = _up_to(share * sizes.sum(), sizes, already, free)
    if name == "train" or sizes[[*already, *chosen]].max() >= FEWEST:
        return chosen
    first = _smallest([domain for domain in free if sizes[domain] >= FEWEST], sizes)
    others = [domain for domain in free if domain not in first]
    return first + _up_to(share * sizes.sum(), sizes, [*already, *first], others)


def _up_to(wanted: float, sizes: pd.Series, already: list[str], free: list[str]) -> list[str]:
    total, chosen = int(sizes[already].sum()), []
    for domain in free:
        if total >= wanted:
            break
        if total + sizes[domain] <= 1.2 * wanted:
            chosen.append(domain)
            total += sizes[domain]
    return chosen or ([] if already else _smallest(free, sizes))


def _smallest(domains: list[str], sizes: pd.Series) -> list[str]:
    return sorted(domains, key=lambda domain: (sizes[domain], domain))[:1]


def _classes_of_share(domain_of: pd.Series, taken: Assigned, name: str, share: float, seed: int) -> list[str]:
    """Free classes with which the split has `share` of all, and enough for a question where there are enough."""
    already = [each for each, split in taken.items() if split == name]
    enough = max(FEWEST, min(USUAL_WAYS, len(domain_of) // 4), math.ceil(share * len(domain_of)))
    free = _shuffled([each for each in sorted(domain_of.index) if each not in taken], seed)
    chosen = free[: max(0, enough - len(already))]
    return chosen if name == "train" else _with_a_pair(chosen, already, free, domain_of)


def _with_a_pair(chosen: list[str], already: list[str], free: list[str], domain_of: pd.Series) -> list[str]:
    """The chosen classes; where all of the split are of different domains, the last one gives way to another."""
    there = Counter(domain_of[each] for each in [*already, *chosen])
    pairs = [each for each in free if each not in chosen and domain_of[each] in there]
    if not pairs or max(there.values()) >= FEWEST:
        return chosen
    last = [each for each in chosen if domain_of[each] != domain_of[pairs[0]]][-1:]
    return [each for each in chosen if each not in last] + pairs[:1]


def _shuffled(names: list[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def spread_rows(classes: pd.DataFrame, most: int) -> Int[np.ndarray, " row"]:
    """Rows of items of these classes, at most so many, evenly spread over them."""
    rows = np.concatenate([np.arange(f, f + n) for f, n in classes[["first", "count"]].itertuples(index=False)])
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
