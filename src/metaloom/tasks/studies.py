"""Further test episodes: how figures move with the number of labelled examples, its balance over the classes, and ways.

Each study has one set of episodes, of which its points take more or less: a task with two labelled examples per class
is that with one and a further one, and its questions stay the same, so that points differ by nothing but what is
studied.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaloom.config import DOMAIN_SUFFIX, Setting, StudySettings
from metaloom.errors import MetaloomError
from metaloom.system.files import required
from metaloom.tasks.episodes import EpisodeTable, as_long, as_table, draw, eligible_groups

if TYPE_CHECKING:
    import pandas as pd

STUDIES = "studies.parquet"
LABELS, UNEVEN, WAYS, ESTIMATES = "labels", "uneven", "ways", "estimates"
QUERIES = 15  # per class of a task whose estimate is compared with the truth, where there are so many
SCOPES = {"any": "", "domain": DOMAIN_SUFFIX}  # where an episode has its classes from: all of the split, one domain
ALL = "all"


def draw_studies(classes: pd.DataFrame, settings: StudySettings, n_query: int, seed: int) -> pd.DataFrame:
    """The episodes of all studies as a long table, like that of the fixed episodes.

    Args:
        classes: the class table with its `split` column.
        settings: what is studied.
        n_query: questions per class.
        seed: each study draws from a generator of its own.

    Raises:
        MetaloomError: the test split has too few classes or examples; says the largest that works.
    """
    import pandas as pd

    pool = classes[classes["split"] == "test"]
    most, tables = max(settings.labels), []
    for scope in settings.kinds:
        name = f"{LABELS}{SCOPES[scope]}"
        setting = f"{settings.n_way}w{most}s{SCOPES[scope]}"
        rows = draw(pool, setting, settings.episodes, n_query, f"{seed}/test/{name}", "studies")
        tables.append(as_long(rows, most, "test", name))
        tables += _estimates(pool, settings, scope, seed)
    return pd.concat([*tables, *_ways(pool, settings, n_query, seed)], ignore_index=True)


def is_of_study(name: str) -> bool:
    """Whether episodes of this name are a point of a study (`labels/any/3`), and not those of a setting (`5w1s`)."""
    return "/" in name


def check_labels(pool: pd.DataFrame, settings: StudySettings, scope: str, n_query: int) -> None:
    """Raises MetaloomError where the test split has too few classes or examples for the largest of `labels`."""
    name = f"{settings.n_way}w{max(settings.labels)}s"
    eligible_groups(pool, name + SCOPES[scope], Setting.parse(name), n_query, bool(SCOPES[scope]), "studies")


def _estimates(pool: pd.DataFrame, settings: StudySettings, scope: str, seed: int) -> list[pd.DataFrame]:
    """This scope's share of the tasks whose estimates are compared with the truth; none where data are too few."""
    n_shot, name = settings.estimates.n_shot, f"{ESTIMATES}{SCOPES[scope]}"
    groups = [part for _, part in pool.groupby("domain")] if SCOPES[scope] else [pool]
    large = [int(part["count"].nlargest(settings.n_way).min()) for part in groups if len(part) >= settings.n_way]
    queries = min(QUERIES, max(large, default=0) - n_shot)
    if queries < 1:
        return []
    tasks = -(-settings.estimates.tasks // len(settings.kinds))
    setting = f"{settings.n_way}w{n_shot}s{SCOPES[scope]}"
    rows = draw(pool, setting, tasks, queries, f"{seed}/test/{name}", "studies")
    return [as_long(rows, n_shot, "test", name)]


def _ways(pool: pd.DataFrame, settings: StudySettings, n_query: int, seed: int) -> list[pd.DataFrame]:
    """Episodes of all classes of a domain, for every domain that has enough for the largest number of ways."""
    if not settings.ways:
        return []
    large, domains = pool[pool["count"] > n_query], way_domains(pool, settings, n_query)
    tables, each = [], -(-settings.episodes // len(domains))
    for domain in domains:
        part = large[large["domain"] == domain]
        rng = np.random.default_rng(list(hashlib.sha256(f"{seed}/test/{WAYS}/{domain}".encode()).digest()))
        rows = [
            [first + rng.permutation(count)[: 1 + n_query] for first, count in part[["first", "count"]].to_numpy()]
            for _ in range(each)
        ]
        shuffled = rng.permuted(np.arange(len(part))[None].repeat(each, axis=0), axis=1)
        taken = np.take_along_axis(np.array(rows), shuffled[..., None], axis=1)
        tables.append(as_long(taken, 1, "test", f"{WAYS}/{domain}"))
    return tables


def way_domains(pool: pd.DataFrame, settings: StudySettings, n_query: int) -> list[str]:
    """The domains with enough classes for the largest of `ways`; raises MetaloomError where there is none."""
    sizes = pool[pool["count"] > n_query].groupby("domain").size()
    domains = list(sizes[sizes >= max(settings.ways)].index)
    if not domains:
        raise MetaloomError(
            f"params.yaml: studies.ways has {max(settings.ways)}, but the largest test domain has "
            f"{sizes.max() if len(sizes) else 0} classes of {n_query + 1} examples: that is the largest that works; "
            "lower it, or leave ways empty"
        )
    return domains


def load_studies(splits: str | Path, settings: StudySettings) -> dict[str, EpisodeTable]:
    """Every point of every study, from the folder that the split stage writes: `labels/any/3`, `uneven/any`,
    `ways/5/Greek`, `ways/all/Greek`, `estimates/any`.

    Raises:
        MetaloomError: the table is absent.
    """
    import pandas as pd

    path = required(Path(splits) / STUDIES, made_by="split")
    drawn = {str(name): as_table(part) for name, part in pd.read_parquet(path).groupby("setting", sort=False)}
    points: dict[str, EpisodeTable] = {}
    for scope in settings.kinds:
        table = drawn[f"{LABELS}{SCOPES[scope]}"]
        points |= {f"{LABELS}/{scope}/{shots}": table.with_labels(shots) for shots in settings.labels}
        if settings.uneven:
            points[f"{UNEVEN}/{scope}"] = table.with_labels(*settings.uneven)
        if f"{ESTIMATES}{SCOPES[scope]}" in drawn:
            points[f"{ESTIMATES}/{scope}"] = drawn[f"{ESTIMATES}{SCOPES[scope]}"]
    for name, table in drawn.items():
        study, _, domain = name.partition("/")
        if study == WAYS:
            points |= {f"{WAYS}/{ways}/{domain}": table.with_ways(ways) for ways in settings.ways}
            points[f"{WAYS}/{ALL}/{domain}"] = table
    return points
