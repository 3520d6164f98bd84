"""A bundle in Python: it is opened once, and answers about examples in any form. It needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from metaloom.data.files import Example, fitting
from metaloom.handoff.bundle.predict import Asked
from metaloom.python.examples import raw_examples


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle that is open; `load_bundle` makes it.

    Args:
        asked: the bundle, and the task whose classes are asked for.
    """

    asked: Asked

    @property
    def classes(self) -> list[str]:
        """Class names in the order of probabilities."""
        return list(self.asked.labels)

    def predict_proba(self, examples: Any) -> Float[np.ndarray, "example n_way"]:
        """Class probabilities, columns in the order of `classes`.

        Args:
            examples: in any form that `Learner.adapt` takes.

        Raises:
            MetaloomError: they are no such examples, or a file cannot be read.
        """
        return self.asked(self._raw(examples))[0]

    def predict(self, examples: Any) -> list[str]:
        """The likeliest class of each example.

        Args:
            examples: in any form that `Learner.adapt` takes.

        Returns:
            Names, of `classes`.

        Raises:
            MetaloomError: they are no such examples, or a file cannot be read.
        """
        return [self.asked.labels[way] for way in self.predict_proba(examples).argmax(axis=1)]

    def novelty(self, examples: Any) -> Float[np.ndarray, " example"]:
        """How far each example is from the nearest class, in units of how far the class's own are: 1 is as usual.

        Args:
            examples: in any form that `Learner.adapt` takes.

        Raises:
            MetaloomError: they are no such examples, or a file cannot be read.
        """
        return self.asked(self._raw(examples))[1]

    def _raw(self, examples: Any) -> list[Shaped[np.ndarray, ...]]:
        asked = self.asked
        found = enumerate(raw_examples(examples, asked.kind), start=1)
        named = (Example(f"{asked.kind.one} {number}", None, raw) for number, raw in found)
        return [fitting(each, asked.shape, asked.kind) for each in named]


def load_bundle(folder: str | Path, task: str | None = None) -> LoadedBundle:
    """Open a bundle, whose files are checked first.

    Args:
        folder: of the bundle.
        task: to choose classes from, in a bundle of many tasks.

    Raises:
        MetaloomError: it is damaged, or has no such task.
    """
    return LoadedBundle(Asked.open(folder, task))
