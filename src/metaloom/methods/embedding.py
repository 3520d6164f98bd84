"""Methods that leave the network as it is, and fit a head to its embeddings.

Every example of a training task may be support in one turn and a query in the others, for the same embeddings:
Laenen, Bertinetto: On Episodes, Prototypical Networks, and Few-Shot Learning, 2021 (https://arxiv.org/abs/2012.09831),
find that episodes waste the other pairs of a batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metaloom.methods.base import Method
from metaloom.methods.model import Episodes, Head, Params, TaskModel, query_loss

WIDE = 1024  # numbers of an embedding above which copies of it take longer than further products


class TakingTurns(Method):
    """How a method trains where a task leaves the network as it is."""

    @property
    def takes_turns(self) -> bool:
        """Whether in training every example serves as support once: where set, and a task changes the head alone."""
        return self.frozen and getattr(self.settings, "take_turns", False)

    def balanced_head(
        self,
        params: Params,
        support_z: Float[Tensor, "*task support embed"],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> Head:
        """`head` of a task all of whose classes have as many examples, as in training."""
        return self.head(params, support_z, support_y, n_way)

    def loss_of_heads(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, ""], Params]:
        """The loss and the parameters of `loss`; all examples of a task pass the network together, under their own
        statistics.

        Where they take turns, support and query stand class by class.
        """
        examples = torch.cat([episodes.support_x, episodes.query_x], dim=1)
        z, statistics = self.network(params.weights, examples, generator=generator)
        n_support = episodes.support_x.shape[1]
        support_z, query_z = z[:, :n_support], z[:, n_support:]
        if self.takes_turns and z.shape[-1] > WIDE:
            logits = self._wide_turns(params, support_z, query_z, episodes)
        else:
            if self.takes_turns:
                support_z, query_z = every_turn(support_z, query_z, episodes.n_way)
            head = self.balanced_head(params, support_z, episodes.support_y, episodes.n_way)
            logits = head.logits(query_z)
        return query_loss(logits, episodes.query_y), self.moved(params, statistics)

    def _wide_turns(
        self,
        params: Params,
        support_z: Float[Tensor, "task support embed"],
        query_z: Float[Tensor, "task query embed"],
        episodes: Episodes,
    ) -> Float[Tensor, "turn query n_way"]:
        """The logits of `every_turn` without its copies: each turn's head answers all examples, its own too."""
        n_way, shots = episodes.n_way, len(episodes.support_y) // episodes.n_way
        of_way = by_way(support_z, query_z, n_way)
        turns = of_way.shape[2]
        # in turn t, example e is at place (e + t) % turns, and support where that is below the shots
        rows = [[(place - turn) % turns for place in range(shots)] for turn in range(turns)]
        support = torch.stack([of_way[:, :, own] for own in rows])  # (turn, task, way, shot, embed)
        head = self.balanced_head(params, support.flatten(0, 1).flatten(1, 2), episodes.support_y, n_way)
        weight = head.weight.unflatten(0, (turns, -1)).transpose(0, 1).flatten(1, 2)  # (task, turn·way, embed)
        logits = (of_way.flatten(1, 2) @ weight.mT).unflatten(2, (turns, n_way)).unflatten(1, (n_way, turns))
        moved = torch.cat([logits[:, :, :, turn].roll(turn, dims=2) for turn in range(turns)])
        return moved[:, :, shots:].flatten(1, 2) + head.bias.unsqueeze(-2)


class EmbeddingMethod(TakingTurns):
    """A method that adapts its head alone: examples are embedded once, for any number of tasks."""

    @property
    def frozen(self) -> bool:
        return True

    def adapt(
        self,
        params: Params,
        support_x: Float[Tensor, ...],
        support_y: Int[Tensor, " support"],
        n_way: int,
    ) -> TaskModel:
        head = self.head(params, self.embed(params, support_x), support_y, n_way)
        return TaskModel(self.network, params.weights, params.statistics, head)

    def loss(
        self, params: Params, episodes: Episodes, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], Params]:
        return self.loss_of_heads(params, episodes, generator)


def every_turn(
    support_z: Float[Tensor, "task support embed"], query_z: Float[Tensor, "task query embed"], n_way: int
) -> tuple[Float[Tensor, "turn support embed"], Float[Tensor, "turn query embed"]]:
    """As many tasks of each as it has examples per class: all of them are support as often as the others."""
    of_way, shots = by_way(support_z, query_z, n_way), support_z.shape[1] // n_way
    turns = torch.cat([of_way.roll(turn, dims=2) for turn in range(of_way.shape[2])])
    return turns[:, :, :shots].flatten(1, 2), turns[:, :, shots:].flatten(1, 2)


def by_way(
    support_z: Float[Tensor, "task support embed"], query_z: Float[Tensor, "task query embed"], n_way: int
) -> Float[Tensor, "task {n_way} example embed"]:
    """All examples class by class."""
    return torch.cat([z.unflatten(1, (n_way, -1)) for z in (support_z, query_z)], dim=2)
