"""How good will it be on my task? Estimates from support sets alone, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Shaped
from torch import Tensor

from metaloom.evaluation.figures import Answers, resamples, share_interval
from metaloom.learner import Learner
from metaloom.learner.estimate import cross_validated
from metaloom.system.terminal import track
from metaloom.tasks.studies import ESTIMATES

COLUMNS = ["kind", "task", "n_way", "n_shot", "estimate", "low95", "high95", "truth", "examples"]


def estimate_rows(learner: Learner, images: Shaped[Tensor, "item ..."], answers: Mapping[str, Answers]) -> pd.DataFrame:
    """One row a task: what its support set alone tells (estimate, low95, high95), and the accuracy on its queries."""
    of_kinds = {name.split("/")[1]: each for name, each in answers.items() if name.startswith(f"{ESTIMATES}/")}
    rows, total = [], sum(len(each.table) for each in of_kinds.values())
    tasks = ((kind, each, task) for kind, each in of_kinds.items() for task in range(len(each.table)))
    for kind, each, task in track(tasks, "estimate", total):
        table = each.table
        support = images[torch.as_tensor(table.support_rows[task])]
        found = cross_validated(learner, support.numpy(), table.labels, task)
        if found is not None:
            said = (found[name] for name in ("accuracy", "low95", "high95"))
            shape = table.n_way, table.support.shape[2]
            rows.append((kind, task, *shape, *said, each.accuracy[task], len(table.answers)))
    return pd.DataFrame(rows, columns=COLUMNS)


def estimate_figures(rows: pd.DataFrame, samples: int) -> dict[str, Any]:
    """Mean absolute error with its interval, bias, and the share of intervals that hold the truth."""
    if rows.empty:
        return {"tasks": 0}
    error = (rows["estimate"] - rows["truth"]).to_numpy()
    mean = float(np.abs(error).mean())
    low, high = share_interval(resamples(len(error), samples) @ np.abs(error), mean, len(error))
    holds = (rows["low95"] <= rows["truth"]) & (rows["truth"] <= rows["high95"])
    return {
        "tasks": len(rows),
        "n_shot": int(rows["n_shot"].iloc[0]),
        "mean_absolute_error": mean,
        "low95": low,
        "high95": high,
        "bias": float(error.mean()),
        "coverage": float(holds.mean()),
    }
