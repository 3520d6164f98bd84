"""Class splits, the fixed episodes that every learner answers, and further ones that tell more of a learner."""

from __future__ import annotations

from metaloom.tasks.episodes import EpisodeTable, draw_fixed_episodes, load_episodes
from metaloom.tasks.splits import assign_splits, class_table, spread_rows
from metaloom.tasks.studies import draw_studies, load_studies

__all__ = [
    "EpisodeTable",
    "assign_splits",
    "class_table",
    "draw_fixed_episodes",
    "draw_studies",
    "load_episodes",
    "load_studies",
    "spread_rows",
]
