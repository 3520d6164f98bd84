"""Features of examples: raw numbers, and two frozen networks' embeddings, computed once for all episodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from metaloom.baselines.stepped import Start
from metaloom.kinds.encoding import Encoding
from metaloom.learner import Learner
from metaloom.networks import Tensors
from metaloom.tasks import EpisodeTable


@dataclass(frozen=True)
class Features:
    """Features of the examples in some episodes; `at` finds a row of the data set among them, `get` gives its features.

    Args:
        rows: which, ascending.
        raw: those examples.
        encoding: of them.
        embeddings: by name: "embedding", the champion's; "pretrained", of the network that was pre-trained by
            classification.
        starts: of the learners that train a network: "scratch" and "finetune_all".
        sizes: of the frozen networks, in bytes, by the name of what they make.
    """

    rows: Int[np.ndarray, " row"]
    raw: Shaped[np.ndarray, "row ..."]
    encoding: Encoding
    embeddings: dict[str, Float[np.ndarray, "row embed"]]
    starts: dict[str, Start]
    sizes: dict[str, int]

    def at(self, rows: Int[np.ndarray, "*row"]) -> Int[np.ndarray, "*row"]:
        """Places of rows of the data set among these."""
        return np.searchsorted(self.rows, rows)

    def get(self, name: str, places: Int[np.ndarray, " place"]) -> Float[np.ndarray, "place ..."]:
        """Some of the examples, "encoded" as a network takes them, in one axis ("flat"), or their embeddings."""
        if name in self.embeddings:
            return self.embeddings[name][places]
        x = self.encoding(torch.from_numpy(self.raw[places])).numpy()
        return x if name == "encoded" else x.reshape(len(x), -1)

    @classmethod
    def of(
        cls,
        examples: Shaped[Tensor, "item ..."],
        tables: Iterable[EpisodeTable],
        champion: Learner,
        pretrained: Learner,
        champions: Shaped[Tensor, "item ..."] | None = None,
    ) -> Features:
        """All features of them.

        Args:
            examples: the whole data set, raw, on the CPU.
            tables: all episodes that are going to be answered.
            champion: whose architecture `scratch` has, and whose embeddings are taken.
            pretrained: by ordinary classification.
            champions: examples as the champion takes them, where it does without the encoder that the others are
                behind; `scratch` then has the architecture of `pretrained`.
        """
        alike = champion if champions is None else pretrained
        rows = np.unique(np.concatenate([table.rows for table in tables]))
        params, network = pretrained.params.kept(), pretrained.method.network
        weights, statistics = ({k: v.cpu() for k, v in group.items()} for group in (params.weights, params.statistics))
        finetuned = Start(network, alike.encoding.kind, weights, statistics or None)
        return cls(
            rows=rows,
            raw=examples[torch.as_tensor(rows)].numpy(),
            encoding=alike.encoding,
            embeddings={
                "embedding": champion.embed(examples if champions is None else champions, rows).cpu().numpy(),
                "pretrained": pretrained.embed(examples, rows).cpu().numpy(),
            },
            starts={"scratch": Start(alike.method.network.one, alike.encoding.kind), "finetune_all": finetuned},
            sizes={"embedding": _size(champion.params.kept().weights), "pretrained": _size(weights)},
        )


def _size(weights: Tensors) -> int:
    return sum(weight.nbytes for weight in weights.values())
