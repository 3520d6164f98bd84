"""What the learners see of the images: pixels, and two frozen networks' embeddings, computed once for all episodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from metaloom.baselines.stepped import Start
from metaloom.methods import Learner
from metaloom.networks import Tensors
from metaloom.tasks import EpisodeTable

NORMALISED_AT_A_TIME = 4096  # images


@dataclass(frozen=True)
class Views:
    """Of the images in some episodes; `at` finds a row of the data set among them.

    Args:
        rows: which, ascending.
        features: by name: "images" (row, channel, height, width), normalised; "pixels", the same in one axis;
            "embedding", the champion's; "pretrained", of the network that was pre-trained by classification.
        starts: of the learners that train a network: "scratch" and "finetune_all".
        sizes: of the frozen networks, in bytes, by the name of what they make.
    """

    rows: Int[np.ndarray, " row"]
    features: dict[str, Float[np.ndarray, "row ..."]]
    starts: dict[str, Start]
    sizes: dict[str, int]

    def at(self, rows: Int[np.ndarray, "*row"]) -> Int[np.ndarray, "*row"]:
        return np.searchsorted(self.rows, rows)

    @classmethod
    def of(
        cls,
        images: UInt8[Tensor, "item height width channel"],
        tables: Iterable[EpisodeTable],
        champion: Learner,
        pretrained: Learner,
    ) -> Views:
        """Args:
        images: the whole data set, raw, on the CPU.
        tables: all episodes that are going to be answered.
        champion: whose architecture `scratch` has, and whose embeddings are seen.
        pretrained: by ordinary classification.
        """
        rows = np.unique(np.concatenate([table.rows for table in tables]))
        seen = np.concatenate(
            [
                champion.normalisation(images[torch.as_tensor(part)]).numpy()
                for part in np.split(rows, range(NORMALISED_AT_A_TIME, len(rows), NORMALISED_AT_A_TIME))
            ]
        )
        features = {
            "images": seen,
            "pixels": seen.reshape(len(seen), -1),
            "embedding": champion.embed(images, rows).cpu().numpy(),
            "pretrained": pretrained.embed(images, rows).cpu().numpy(),
        }
        params = pretrained.params.kept()
        network = pretrained.method.network
        weights, statistics = ({k: v.cpu() for k, v in group.items()} for group in (params.weights, params.statistics))
        finetuned = Start(network, weights, statistics or None)
        starts = {"scratch": Start(champion.method.network.one), "finetune_all": finetuned}
        sizes = {"embedding": _size(champion.params.kept().weights), "pretrained": _size(weights)}
        return cls(rows, features, starts, sizes)


def _size(weights: Tensors) -> int:
    return sum(weight.nbytes for weight in weights.values())
