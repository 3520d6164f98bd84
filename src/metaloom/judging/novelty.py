"""How well both tell examples of a class that they do not know from the others, by the novelty that their bundles give.

In each episode one class is left out of the support set, so its queries are new. The AUROC of an episode is how likely
a new query has a higher novelty than one of the classes that are known: 0.5 is guessing (Hanley, McNeil: The meaning
and use of the area under a receiver operating characteristic curve, 1982, Radiology 143).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from metaloom.handoff.graphs.novelty import Novelty
from metaloom.learner import Learner
from metaloom.learner.placement import picked
from metaloom.methods.base import TASKS_AT_A_TIME
from metaloom.tasks import EpisodeTable

EPISODES = 300  # that are asked about, of those that were answered: a standard error of about half a point


def aurocs(
    learner: Learner, examples: Shaped[Tensor, "item ..."], table: EpisodeTable
) -> Float[np.ndarray, " episode"]:
    """Of each episode, whose last class is the new one.

    Args:
        learner: whose novelty is asked for.
        examples: packed, as `Learner.answer` takes them.
        table: of episodes with at least two classes.
    """
    ways, n_query = table.n_way - 1, table.query.shape[2]
    labels = torch.arange(ways).repeat_interleave(table.support.shape[2])
    found = []
    for support, query in _embedded(learner, examples, table, labels, ways):
        score = Novelty.of(support.double(), labels, ways).score(query.double()).numpy()
        known, new = score[:-n_query], score[-n_query:, None]
        found.append((new > known).mean() + (new == known).mean() / 2)
    return np.array(found)


def _embedded(
    learner: Learner, examples: Tensor, table: EpisodeTable, labels: Tensor, ways: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Embeddings of each episode's support set, without its last class, and of its queries; on the host."""
    support = torch.from_numpy(table.support[:, :-1].reshape(len(table), -1))
    query = torch.from_numpy(table.query_rows)
    if learner.method.frozen:
        rows = torch.cat([support.ravel(), query.ravel()]).unique()
        z = learner.embed(examples, rows).cpu()
        yield from zip(*(z[torch.searchsorted(rows, each.contiguous())] for each in (support, query)), strict=True)
        return
    for part in zip(support.split(TASKS_AT_A_TIME), query.split(TASKS_AT_A_TIME), strict=True):
        own, asked = (learner.encoding(picked(examples, rows, learner.device)) for rows in part)
        with torch.no_grad(), learner.method.network.threads(learner.device):
            model = learner.method.adapt(learner.params, own, labels.to(learner.device), ways)
            both = [model.network(model.weights, x, model.statistics)[0].cpu() for x in (own, asked)]
        yield from zip(*both, strict=True)
