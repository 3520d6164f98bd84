"""Intervals over episodes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from metaloom.methods.scoring import mean_and_half_width


def summarise(episodes: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """{learner: {setting: figures}} from a table with columns learner, setting, accuracy, nll."""
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for (learner, setting), rows in episodes.groupby(["learner", "setting"], sort=False):
        accuracy, half = mean_and_half_width(rows["accuracy"].to_numpy())
        figures = {
            "accuracy": accuracy,
            "ci95": half,
            "nll": float(rows["nll"].mean()),
            "episodes": len(rows),
        }
        summary.setdefault(str(learner), {})[str(setting)] = figures
    return summary


def paired_differences(episodes: pd.DataFrame, champion: str) -> dict[str, dict[str, dict[str, Any]]]:
    """{setting: {learner: champion's accuracy minus the learner's}}, on the episodes that both answered."""
    differences: dict[str, dict[str, dict[str, Any]]] = {}
    for setting, rows in episodes.groupby("setting", sort=False):
        wide = rows.pivot(index="episode", columns="learner", values="accuracy")
        for learner in rows["learner"].unique():
            if learner == champion:
                continue
            both = (wide[champion] - wide[learner]).dropna().to_numpy()
            mean, half = mean_and_half_width(both)
            figures = {"difference": mean, "ci95": half, "episodes": len(both)}
            differences.setdefault(str(setting), {})[learner] = figures
    return differences
