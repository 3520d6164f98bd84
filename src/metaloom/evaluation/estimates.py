"""How good will it be on my task? Estimates from support sets alone, beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from metaloom.evaluation.figures import Answers, share_interval
from metaloom.learner import Learner
from metaloom.learner.estimate import cross_validated, cross_validated_embeddings
from metaloom.learner.intervals import resamples
from metaloom.system.terminal import track
from metaloom.tasks.studies import ESTIMATES

COLUMNS = ["kind", "task", "n_way", "n_shot", "estimate", "low95", "high95", "truth", "examples"]


def estimate_rows(
    learner: Learner, examples: Shaped[Tensor, "item ..."], answers: Mapping[str, Answers]
) -> pd.DataFrame:
    """One row per task: what its support set alone tells (estimate, low95, high95), and the accuracy on its queries.

    A method that only adapts its head embeds each example once, however many tasks it is in.
    """
    of_scopes = {name.split("/")[1]: each for name, each in answers.items() if name.startswith(f"{ESTIMATES}/")}
    rows, total = [], sum(len(each.table) for each in of_scopes.values())
    estimate = _estimator(learner, examples, [each.table.support_rows for each in of_scopes.values()])
    tasks = ((scope, each, task) for scope, each in of_scopes.items() for task in range(len(each.table)))
    for scope, each, task in track(tasks, "estimate", total):
        table = each.table
        found = estimate(table.support_rows[task], table.labels, task)
        if found is not None:
            said = (found[name] for name in ("accuracy", "low95", "high95"))
            shape = table.n_way, table.support.shape[2]
            rows.append((scope, task, *shape, *said, each.accuracy[task], len(table.answers)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _estimator(
    learner: Learner, examples: Tensor, supports: Sequence[Int[np.ndarray, "task support"]]
) -> Callable[[np.ndarray, np.ndarray, int], dict[str, Any] | None]:
    """The estimate of one task, from the rows of its support set, their ways and a seed."""
    if not (learner.method.frozen and supports):
        return lambda rows, ways, seed: cross_validated(learner, examples[torch.as_tensor(rows)].numpy(), ways, seed)
    used = np.unique(np.concatenate([rows.ravel() for rows in supports]))
    z = learner.embed(examples, used)

    def from_embeddings(rows: np.ndarray, ways: np.ndarray, seed: int) -> dict[str, Any] | None:
        places = torch.as_tensor(np.searchsorted(used, rows), device=z.device)
        return cross_validated_embeddings(learner, z[places], ways, seed)

    return from_embeddings


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
