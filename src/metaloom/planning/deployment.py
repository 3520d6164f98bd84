"""What the section `export` asks for, and whether there is such a thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from metaloom.config import PARAMS, SPLITS, ExportSettings
from metaloom.config.auto import AUTO
from metaloom.errors import MetaloomError
from metaloom.system.meant import meant

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DeploymentTask:
    """Rows of the data set to learn from and to be measured on; a way is the place of a class in `labels`."""

    domain: str
    split: str
    labels: list[str]
    support: Int[np.ndarray, " support"]
    support_ways: Int[np.ndarray, " support"]
    rest: Int[np.ndarray, " rest"]
    rest_ways: Int[np.ndarray, " rest"]


def deployed(classes: pd.DataFrame, export: ExportSettings) -> pd.DataFrame:
    """The rows of the deployment domain in the class table.

    Args:
        classes: the class table with its `split` column.
        export: which names a domain; or is "auto", see `of_domain`.

    Raises:
        MetaloomError: no such domain, or a class with too few examples.
    """
    domain, n_shot, chosen = export.domain, export.n_shot, of_domain(classes, export.domain)
    if chosen.empty:
        tests = classes.loc[classes["split"] == "test", "domain"].unique()
        raise MetaloomError(
            f"{PARAMS}: export.domain: there is no {domain!r}; test domains: "
            f"{', '.join(tests)}{meant(domain, classes['domain'].unique())}"
        )
    if len(chosen) < 2:
        raise MetaloomError(
            f"{PARAMS}: export.domain: {chosen['domain'].iloc[0]} has one class, a task needs two or more"
        )
    fewest = chosen.sort_values("count").iloc[0]
    if fewest["count"] < n_shot:
        raise MetaloomError(
            f"{PARAMS}: export.n_shot is {n_shot}, but class {fewest['class']} has {fewest['count']} "
            f"examples; the largest that works is {fewest['count']}"
        )
    return chosen


def draw_task(classes: pd.DataFrame, export: ExportSettings, seed: int) -> DeploymentTask:
    """All classes of the domain in params, with `export.n_shot` seeded support examples each.

    Args:
        classes: the class table of the split stage.
        export: as `deployed` takes it.
        seed: of the settings.

    Raises:
        MetaloomError: no such domain, or a class with too few examples.
    """
    chosen, n_shot = deployed(classes, export), export.n_shot
    domain = chosen["domain"].iloc[0]
    rng = np.random.default_rng(seed)
    support, rest = [], []
    for first, count in chosen[["first", "count"]].itertuples(index=False):
        order = first + rng.permutation(count)
        support.append(np.sort(order[:n_shot]))
        rest.append(np.sort(order[n_shot:]))
    ways = np.arange(len(chosen))
    return DeploymentTask(
        domain=domain,
        split=next(split for split in SPLITS if (chosen["split"] == split).any()),
        labels=[name.removeprefix(f"{domain}/") for name in chosen["class"]],
        support=np.concatenate(support),
        support_ways=ways.repeat(n_shot),
        rest=np.concatenate(rest),
        rest_ways=ways.repeat([len(rows) for rows in rest]),
    )


def of_domain(classes: pd.DataFrame, domain: str) -> pd.DataFrame:
    """The classes of a domain; for "auto" the test classes of the first test domain that has two, or of the first."""
    if domain != AUTO:
        return classes.loc[classes["domain"] == domain]
    tests = classes.loc[classes["split"] == "test"]
    sizes = tests.groupby("domain", sort=False).size()
    return tests.loc[tests["domain"] == next((name for name in sizes.index if sizes[name] > 1), sizes.index[0])]


def check_versions(export: ExportSettings) -> None:
    """Raises MetaloomError where the opset of the settings needs a newer IR version than theirs."""
    import onnx  # here: a third of a second, which few callers need

    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", export.opset)])
    if export.ir_version < needed:
        raise MetaloomError(
            f"{PARAMS}: export.ir_version is {export.ir_version}, but opset {export.opset} needs {needed} or newer: "
            "raise export.ir_version or lower export.opset"
        )


def check_start(start: str | None, methods: Sequence[str]) -> None:
    """Raises MetaloomError where the folder of earlier models has none of a method that is trained."""
    if start is not None and not any(Path(start, name, "model.safetensors").is_file() for name in methods):
        tracked = f"{start.rstrip('/')}.dvc"
        remedy = "give a copy of an earlier run's models, or null"
        if Path(tracked).is_file() and not Path(start).exists():
            remedy = f"`dvc pull {tracked}` brings it, and null starts from random weights"
        raise MetaloomError(f"{PARAMS}: train.start is {start}, which has no model of {' or '.join(methods)}: {remedy}")


def check_key(export: ExportSettings) -> None:
    """Raises MetaloomError where the private key that signs the bundle is not there."""
    if export.key is not None and not Path(export.key).is_file():
        raise MetaloomError(f"{PARAMS}: export.key: there is no file {export.key}; null: the bundle is not signed")
