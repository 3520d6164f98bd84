"""A tiny data set of vectors: tables of numbers, a file per domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

FEATURES = 6


def draw_tables(folder: Path, domains: int = 10, classes: int = 4, examples: int = 8, seed: int = 0) -> None:
    """Clouds of points, one per class, on scales of their own; every second file is Parquet."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    scales = np.array([1, 10, 100, 1, 1, 0.1])
    for domain in range(domains):
        centres = rng.normal(0, 2, (classes, 1, FEATURES)) + rng.normal(0, 1, FEATURES)
        points = (centres + rng.normal(0, 0.5, (classes, examples, FEATURES))) * scales
        table = pd.DataFrame(points.reshape(-1, FEATURES).round(4), columns=list("abcdef"))
        table.insert(0, "class", np.repeat([f"c{number}" for number in range(classes)], examples))
        if domain % 2:
            table.to_csv(folder / f"line{domain}.csv", index=False)
        else:
            table.to_parquet(folder / f"line{domain}.parquet")
