"""Two revisions side by side: data, drift, figures, settings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from metaloom.data.packed import array_name
from metaloom.errors import MetaloomError
from metaloom.evaluation.drift import MOST, DataChange, Moved, changes, moved, newness
from metaloom.evaluation.space import embed_classes
from metaloom.learner import Learner
from metaloom.system.files import read_json
from metaloom.tasks import class_table
from metaloom.versioning.revisions import Revision, at_revision, metrics_differ, params_differ

DATASET, SPLITS, MODELS, EVALUATION = (f"artifacts/{name}" for name in ("dataset", "splits", "models", "evaluation"))
METRICS = "metrics/evaluation.json"
SHOWN = 12  # new classes that are named


@dataclass(frozen=True)
class Version:
    """One revision's data in short."""

    name: str
    data: str
    domains: int
    classes: int
    examples: int


@dataclass
class Comparison:
    """What could be compared; `missing` says why a part is absent.

    Args:
        figures: learner, setting, before, now (accuracies), ci_before, ci_now, apart (whether the intervals do not
        meet). drift: domains that moved, and `newness` of the new classes with their names.
    """

    a: Version | None = None
    b: Version | None = None
    change: DataChange | None = None
    moved: list[Moved] = field(default_factory=list)
    new_classes: dict[str, Any] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def compare(root: Path, a: str, b: str) -> Comparison:
    """Set two revisions side by side; a part whose files are not to be had is left out with the reason.

    Raises:
        MetaloomError: one of them is no revision.
    """
    found = Comparison()
    with at_revision(root, a) as before, at_revision(root, b) as now, tempfile.TemporaryDirectory() as folder:
        _try(found, lambda: _data(found, before, now, Path(folder)))
        if found.change is not None and not found.change.none:
            _try(found, lambda: _drift(found, before, now, Path(folder)))
    _try(found, lambda: found.figures.extend(figures(metrics_differ(root, a, b).get(METRICS, {}))))
    found.settings = params_differ(root, a, b)
    return found


def _try(found: Comparison, part: Callable[[], None]) -> None:
    try:
        part()
    except MetaloomError as error:
        found.missing.append(str(error))


def _data(found: Comparison, before: Revision, now: Revision, folder: Path) -> None:
    items = {}
    for side, revision in (("a", before), ("b", now)):
        path = revision.get(f"{DATASET}/items.parquet", folder / f"{side}.parquet")
        table = items[side] = pd.read_parquet(path)
        shape = table["domain"].nunique(), table["class"].nunique(), len(table)
        setattr(found, side, Version(revision.name, revision.data, *shape))
    found.change = changes(items["a"], items["b"])


def _drift(found: Comparison, before: Revision, now: Revision, folder: Path) -> None:
    """In the embedding of the earlier model, which has not learned from what is new; the later one's if it is alone."""
    assert found.change is not None
    trained = before if before.files.exists(MODELS) else now
    method = read_json(trained.get(f"{EVALUATION}/champion.json", folder / "champion.json"))["method"]
    learner = Learner.load(trained.get(f"{MODELS}/{method}", folder / "model"))
    images, items = {}, {}
    for side, revision in (("a", before), ("b", now)):
        packed = f"{DATASET}/{array_name(learner.encoding.kind)}"
        images[side] = np.load(revision.get(packed, folder / f"{side}.npy"), mmap_mode="c")
        items[side] = pd.read_parquet(folder / f"{side}.parquet")
    if any(each.shape[1:] != learner.encoding.packed for each in images.values()):
        raise MetaloomError("drift: the two versions' examples differ in shape, so no one network sees both")
    both = set(items["a"]["domain"]) & set(items["b"]["domain"]) & set(found.change.examples.index)
    for domain in sorted(both):
        one, other = (_embedded(learner, images[side], items[side], domain) for side in ("a", "b"))
        found.moved.append(moved(domain, one, other))
    new = found.change.classes["added"]
    if new:
        classes = pd.read_parquet(trained.get(f"{SPLITS}/classes.parquet", folder / "classes.parquet"))
        near = pd.read_parquet(trained.get(f"{EVALUATION}/nearness.parquet", folder / "nearness.parquet"))
        side = "a" if trained is before else "b"
        training = classes[classes["split"] == "train"]
        learned = embed_classes(learner, torch.from_numpy(images[side]), training)
        table = class_table(items["b"]).assign(split="new")
        fresh = embed_classes(learner, torch.from_numpy(images["b"]), table[table["class"].isin(new)])
        told = newness(fresh.prototypes, learned.prototypes, near["relative"].dropna().to_numpy())
        names = {"classes": fresh.classes["class"].tolist()}
        nearest = [str(learned.classes["class"].iloc[place]) for place in told.pop("nearest")]
        found.new_classes.update(names | {"nearest": nearest} | told)


def _embedded(learner: Learner, images: np.ndarray, items: pd.DataFrame, domain: str) -> np.ndarray:
    rows = np.flatnonzero(items["domain"] == domain)
    spread = rows[np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(int)]
    return learner.embed(torch.from_numpy(images), spread).cpu().numpy()


def figures(difference: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Accuracies of every learner and setting from `dvc metrics diff` of the evaluation."""
    rows = []
    for key, values in difference.items():
        learner, _, rest = key.partition(".")
        setting, _, figure = rest.rpartition(".")
        if figure != "accuracy":
            continue
        ends: dict[str, Any] = {
            f"{which}_{side}": difference.get(f"{learner}.{setting}.{which}", {}).get(side)
            for which in ("low95", "high95", "ci95")
            for side in ("old", "new")
        }
        apart = None not in ends.values() and (
            ends["low95_new"] > ends["high95_old"] or ends["high95_new"] < ends["low95_old"]
        )
        named = {"learner": learner, "setting": setting, "before": values.get("old"), "now": values.get("new")}
        rows.append(named | {"ci_before": ends["ci95_old"], "ci_now": ends["ci95_new"], "apart": bool(apart)})
    return rows
