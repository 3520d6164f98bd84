"""A task that has been learned, and predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.kinds.encoding import Encoding
from metaloom.learner.saved_task import read_task, write_task
from metaloom.methods.model import TaskModel

BATCH = 512  # examples that pass the network at a time when nothing is learned: bounds memory


@dataclass(frozen=True)
class AdaptedTask:
    """A task model together with the labels of its classes and the way examples go in.

    Args:
        model: network and head as they were adapted; its logits are divided by the temperature already.
        encoding: of packed examples to the network's input.
        classes: the label of each way, sorted: the order of probabilities.
    """

    model: TaskModel
    encoding: Encoding
    classes: list[Any]

    def predict_proba(self, query_x: Shaped[np.ndarray | Tensor, "query ..."]) -> Float[np.ndarray, "query n_way"]:
        """Class probabilities, columns in the order of `classes`.

        Args:
            query_x: packed examples, (query, *`encoding.packed`): of pictures uint8 pixels (query, height, width,
                channel) at the network's own size, of vectors float32 (query, feature), of texts an array
                of them too.

        Raises:
            MetaloomError: they are of another size or type.
        """
        weight = self.model.head.weight
        examples = checked(query_x, self.encoding, "query").to(weight.device)
        with torch.no_grad():
            parts = [self.model.logits(self.encoding(part).to(weight.dtype)) for part in examples.split(BATCH)]
        return torch.cat(parts).softmax(dim=1).cpu().numpy()

    def predict(self, query_x: Shaped[np.ndarray | Tensor, "query ..."]) -> list[Any]:
        """The likeliest class of each example.

        Args:
            query_x: as `predict_proba` takes them.

        Returns:
            Labels, of `classes`.

        Raises:
            MetaloomError: they are of another size or type.
        """
        return [self.classes[way] for way in self.predict_proba(query_x).argmax(axis=1)]

    def save(self, folder: str | Path) -> None:
        """Write task.safetensors and task.json, which names the other's SHA-256.

        Args:
            folder: of the task; it is made where there is none.

        Raises:
            MetaloomError: the classes are neither texts nor numbers, or the model has more than a task model has.
        """
        write_task(Path(folder), self.model, self.encoding, self.classes)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> AdaptedTask:
        """Read what `save` wrote.

        Args:
            folder: of the task.
            device: where it is going to live.

        Raises:
            MetaloomError: a file is absent, damaged or of a newer format, or they do not fit each other.
        """
        return cls(*read_task(Path(folder), device))


def checked(
    examples: Shaped[np.ndarray | Tensor, "item ..."], encoding: Encoding, what: str
) -> Shaped[Tensor, "item ..."]:
    """Packed examples as a tensor.

    Args:
        examples: as they are packed.
        encoding: that is going to take them.
        what: they are, for the message.

    Raises:
        MetaloomError: another size or type.
    """
    examples = encoding.taken(examples)
    dtype = str(examples.dtype).removeprefix("torch.")
    if not encoding.takes(tuple(examples.shape[1:]), dtype):
        raise MetaloomError(
            f"{what} {encoding.kind.many} are {dtype} {tuple(examples.shape)}; this learner takes {encoding.dtype} "
            f"({what}, {', '.join(map(str, encoding.packed))})"
        )
    if isinstance(examples, Tensor):
        return examples
    return torch.as_tensor(np.require(examples, requirements=["C", "W"]))  # a copy of what torch cannot share
