"""`Learner` and `AdaptedTask` as a user in Python meets them: they take examples in any form.

The pipeline's own (`metaloom.learner`) take packed examples alone.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from metaloom import learner
from metaloom.errors import MetaloomError
from metaloom.kinds.encoding import Encoding
from metaloom.learner.saved_task import read_task
from metaloom.learner.task import checked
from metaloom.python.examples import plain, raw_examples


class AdaptedTask(learner.AdaptedTask):
    """A task model together with the labels of its classes and the way examples go in.

    Args:
        model: network and head as they were adapted; its logits are divided by the temperature already.
        encoding: of packed examples to the network's input.
        classes: the label of each way, sorted: the order of probabilities.
    """

    def predict_proba(self, query_x: Any) -> Float[np.ndarray, "query n_way"]:
        """Class probabilities, columns in the order of `classes`.

        Args:
            query_x: examples, in any form that `Learner.adapt` takes.

        Raises:
            MetaloomError: they are no such examples, or a file cannot be read.
        """
        examples = packed(query_x, self.encoding, "query")
        if not len(examples):  # networks take one or more
            return np.empty((0, len(self.classes)), np.float32)
        return super().predict_proba(examples)

    def predict(self, query_x: Any) -> list[Any]:
        """The likeliest class of each example.

        Args:
            query_x: examples, in any form that `Learner.adapt` takes.

        Returns:
            Labels, of `classes`.

        Raises:
            MetaloomError: they are no such examples, or a file cannot be read.
        """
        return [self.classes[way] for way in self.predict_proba(query_x).argmax(axis=1)]

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


class Learner(learner.Learner):
    """A meta-learner and what it has learned.

    Args:
        name: of the method, as in params.
        method: how it adapts.
        params: what it learned.
        encoding: of packed examples, fitted on training classes.
        config: what learner.json holds, enough to rebuild all but `params`.
        temperature: which its logits are divided by.
    """

    @classmethod
    def of(cls, other: learner.Learner) -> Learner:
        """The same as one of the pipeline's.

        Args:
            other: with packed examples alone.
        """
        return cls(**{each.name: getattr(other, each.name) for each in fields(other)})

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu", made_by: str = "") -> Learner:
        """Read what `save` wrote, or a run: `artifacts/models/protonet`.

        Args:
            folder: of the model.
            device: where it is going to live.
            made_by: the stage that makes it, for the message where it is absent; else train@ and the folder's name.

        Raises:
            MetaloomError: a file is absent, damaged, of another version of metaloom, its weights are another
                network's, or the device is not there.
        """
        return cls.of(learner.Learner.load(folder, device, made_by))

    def adapt(self, support_x: Any, support_y: Any, weights: Any = None) -> AdaptedTask:
        """Learn a task from labelled examples.

        Args:
            support_x: examples. Of pictures: paths, PIL images, or arrays (support, height, width) or (support,
                height, width, channel), of any size, grey or in colour, uint8 or floats from 0 to 1; a list may have
                pictures of many sizes. Of rows of numbers: an array (support, feature) or a DataFrame. Of texts: a
                list or a column of them. `docs/python.md` says more.
            support_y: a label for each; any values that sort. Their order is that of the probabilities.
            weights: how often each counts: 2 is as if it stood there twice, 0 as if it did not. None: once each.

        Raises:
            MetaloomError: they are no such examples, a file cannot be read, there is not a label for each, there
                are fewer than two classes, or the method does not weigh examples.
        """
        task = super().adapt(packed(support_x, self.encoding, "support"), np.asarray(support_y), weights)
        return AdaptedTask(task.model, task.encoding, task.classes)


def packed(given: Any, encoding: Encoding, what: str) -> Shaped[Tensor, "item ..."]:
    """Examples in any form, packed.

    Args:
        given: raw examples (see `raw_examples`), or such as are packed in another type than raw ones have: code points
            of texts, an encoder's rows.
        encoding: that is going to take them.
        what: they are, for the message.

    Raises:
        MetaloomError: they are none of these, or of another size.
    """
    given = plain(given)
    if (
        isinstance(given, np.ndarray)
        and str(given.dtype) != encoding.raw_type
        and encoding.takes(given.shape[1:], str(given.dtype))
    ):
        return checked(given, encoding, what)
    examples = [encoding.kind.pack(each) for each in raw_examples(given, encoding.kind)]
    if not examples:
        return checked(np.empty((0, *encoding.packed), encoding.dtype), encoding, what)
    odd = next((number for number, each in enumerate(examples, start=1) if each.shape != examples[0].shape), None)
    if odd is not None:
        raise MetaloomError(
            f"{what} {encoding.kind.one} {odd} has {examples[odd - 1].size} numbers where the first one has "
            f"{examples[0].size}: give as many for each"
        )
    return checked(np.stack(examples), encoding, what)
