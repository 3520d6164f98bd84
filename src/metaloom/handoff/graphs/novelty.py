"""How unlike anything in the support set an example is, in units of how far its own examples are from their class.

The novelty of a query is its distance to the nearest class mean, over the support's spread: the root mean square
distance of a support example to the mean of its class's other examples. 1 is as usual, 2 twice as far. The distance to
the nearest mean as a score is Snell, Swersky, Zemel's model read as a density (https://arxiv.org/abs/1703.05175,
section 2.3). Where no class has a second example, the spread is half the root mean square distance of a class to its
nearest neighbour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor

from metaloom.learner import AdaptedTask

FAR = 1e30  # a squared distance that is nobody's: less than float32's largest, so that it can be added to


class Novelty(NamedTuple):
    """What it takes to score queries, of the support set alone.

    Args:
        means: of each class's embeddings.
        absent: FAR for a class without an example, else 0; a squared distance that is added.
        spread: root mean square distance of the support's examples from their class.
    """

    means: Float[Tensor, "n_way embed"]
    absent: Float[Tensor, " n_way"]
    spread: Float[Tensor, ""]

    @classmethod
    def of(cls, z: Float[Tensor, "support embed"], y: Int[Tensor, " support"], n_way: int) -> Novelty:
        """From the embeddings of the support set."""
        member = (y == torch.arange(n_way, device=y.device)[:, None]).to(z.dtype)
        count = member.sum(dim=1)
        means = member @ z / count.clamp(min=1)[:, None]
        absent = torch.where(count > 0, 0.0, FAR)
        shots = member.mT @ count  # of each example's class
        others = torch.where(shots > 1, shots / (shots - 1).clamp(min=1), 0.0)
        left_out = (z - member.mT @ means).square().sum(dim=1) * others.square()
        repeated = (shots > 1).to(z.dtype).sum()
        alone = (_distances(means, means) + absent + FAR * torch.eye(n_way, device=z.device)).amin(dim=1) / 4
        alone = torch.where(count > 0, alone, 0.0).sum() / (count > 0).to(z.dtype).sum()
        squared = torch.where(repeated > 0, left_out.sum() / repeated.clamp(min=1), alone)
        return cls(means, absent, squared.clamp(min=1e-12).sqrt())

    def score(self, z: Float[Tensor, "query embed"]) -> Float[Tensor, " query"]:
        """The novelty of queries: 1 is as usual."""
        return (_distances(z, self.means) + self.absent).amin(dim=1).sqrt() / self.spread


def embedded(task: AdaptedTask, packed: Shaped[np.ndarray, "item ..."]) -> Float64[Tensor, "item embed"]:
    """A task's embeddings of packed examples, in float64."""
    model = task.model.double()
    with torch.no_grad():
        x = task.encoding(torch.tensor(packed)).double()
        return model.network(model.weights, x, model.statistics)[0]


def novelty_of(
    task: AdaptedTask, support_x: Shaped[np.ndarray, "support ..."], support_y: Int[np.ndarray, " support"]
) -> Novelty:
    """What a task's novelty needs of the packed examples that the task was learned from."""
    return Novelty.of(embedded(task, support_x), torch.tensor(support_y), len(task.classes))


def _distances(a: Float[Tensor, "a embed"], b: Float[Tensor, "b embed"]) -> Float[Tensor, "a b"]:
    """Squared, from differences: the difference of squares would lose what is small."""
    return (a[:, None] - b).square().sum(dim=-1)
