"""What the section `export` asks for, and whether there is such a thing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from metaloom.config import PARAMS, ExportSettings
from metaloom.config.auto import AUTO
from metaloom.errors import MetaloomError


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
        raise MetaloomError(f"{PARAMS}: export.domain: there is no {domain!r}; test domains: {', '.join(tests)}")
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


def check_key(export: ExportSettings) -> None:
    """Raises MetaloomError where the private key that signs the bundle is not there."""
    if export.key is not None and not Path(export.key).is_file():
        raise MetaloomError(f"{PARAMS}: export.key: there is no file {export.key}; null: the bundle is not signed")
