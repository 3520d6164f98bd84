"""A learner as a scikit-learn estimator: for pipelines, cross-validation and whatever else takes one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from metaloom import learner as core
from metaloom.errors import MetaloomError
from metaloom.kinds.encoding import Encoding
from metaloom.python.examples import in_order, is_frame, plain
from metaloom.python.learner import AdaptedTask, Learner, packed

EXAMPLES = (str, Path, bytes, Image.Image)  # one of them is one example
HELD_AS_FILES: dict[str, type[core.Learner] | type[core.AdaptedTask]] = {"learner": Learner, "task_": AdaptedTask}


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Learns a task from a handful of labelled examples: `fit` adapts a meta-trained learner.

    A pickle of it holds the learner and the task as safetensors and JSON, so that nothing but this class's own
    code runs when it is read (as with any pickle, read only your own). It comes back on the CPU.

    Args:
        learner: a Learner, or the folder of a saved one, which `fit` loads.

    Attributes:
        classes_: labels, sorted; the order of probabilities.
        n_features_in_: numbers of a packed example; of a picture height · width · channel.
        task_: the AdaptedTask; its own classes are positions in `classes_`.
    """

    def __init__(self, learner: Any) -> None:
        self.learner = learner

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FewShotClassifier:
        """Adapt to a task.

        Args:
            X: examples in any form that `Learner.adapt` takes; pictures also as rows of pixels, (support,
                height · width · channel) of the size that the learner packs them in.
            y: a label for each.
            sample_weight: how often each counts: 2 is as if it stood there twice, 0 as if it did not. Prototypical
                networks take it, the other methods refuse it. None: once each.

        Warns:
            UserWarning: the examples look like the negative of those in training.

        Raises:
            TypeError: `learner` is neither a Learner nor a folder.
            ValueError: shapes or types do not fit, a file cannot be read, there are fewer than two classes, or the
                learner's method does not weigh examples.
            MetaloomError: the learner's folder is absent or damaged.
        """
        learner = self._loaded()
        encoding = learner.encoding
        X, y = validate_data(self, _flat(X, encoding, "support"), y, dtype=None)
        check_classification_targets(y)
        self.classes_, ways = np.unique(y, return_inverse=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        examples = self._examples(X, encoding, "support")
        if encoding.looks_inverted(_packed(examples, encoding, "support").numpy()):
            warnings.warn(
                f"the {encoding.kind.many} look like the negative of those in training: {encoding.negative_remedy}, or "
                "give a learner that reads them so, learner.reading(learner.encoding.inverted())",
                stacklevel=2,
            )
        try:
            self.task_ = learner.adapt(examples, ways, sample_weight)
        except MetaloomError as error:
            raise ValueError(str(error)) from None
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "query n_way"]:
        """Class probabilities, columns in the order of `classes_`.

        Args:
            X: examples, in any form that `fit` takes.

        Raises:
            NotFittedError: before `fit`.
            ValueError: shapes or types do not fit.
        """
        check_is_fitted(self)
        encoding = self.task_.encoding
        X = validate_data(self, _flat(X, encoding, "query"), dtype=None, reset=False)
        return self.task_.predict_proba(self._examples(X, encoding, "query"))

    def predict(self, X: Any) -> Shaped[np.ndarray, " query"]:
        """The likeliest class of each example.

        Args:
            X: examples, in any form that `fit` takes.

        Returns:
            Labels, of `classes_`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: shapes or types do not fit.
        """
        ways = self.predict_proba(X).argmax(axis=1)
        return self.classes_[ways]

    def _loaded(self) -> Learner:
        if isinstance(self.learner, str | Path):
            return Learner.load(self.learner)
        if not isinstance(self.learner, core.Learner):
            raise TypeError(f"learner is a {type(self.learner).__name__}; give a Learner or the folder of a saved one")
        return Learner.of(self.learner)

    def _examples(
        self, X: Shaped[np.ndarray, "item value"], encoding: Encoding, what: str
    ) -> Shaped[np.ndarray, "item ..."]:
        """What a learner takes, from rows that have passed scikit-learn's checks."""
        fits = X.shape[1] == math.prod(encoding.packed)
        X = X.reshape(-1, *encoding.packed) if fits else X
        _packed(X, encoding, what)
        return X

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {
            name: _files(value) if isinstance(value, core.Learner | core.AdaptedTask) else value
            for name, value in state.items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(
            {
                name: _unpacked(HELD_AS_FILES[name], value) if name in HELD_AS_FILES and type(value) is dict else value
                for name, value in state.items()
            }
        )


def _flat(X: Any, encoding: Encoding, what: str) -> Any:
    """Examples as rows, the only shape that scikit-learn's own checks know; what are rows already, as they are."""
    if is_frame(X) and all(dtype.kind in "buif" for dtype in X.dtypes):
        return _refused(in_order, X, encoding.kind)
    X = plain(X)
    if not (is_frame(X) or _are_examples(X)):
        return X
    found = _packed(X, encoding, what)
    # what is packed otherwise than it came (texts) stays so; pictures are packed once more by the learner
    raw = encoding.unpacked(found.numpy()) if encoding.raw_type == encoding.dtype else found.numpy()
    return raw.reshape(len(raw), math.prod(encoding.packed))


def _are_examples(X: Any) -> bool:
    """Whether it is a list of examples, or an array of pictures, and not rows of numbers."""
    if not isinstance(X, list):
        return getattr(X, "ndim", 2) > 2
    first = X[0] if X else None
    return isinstance(first, EXAMPLES) or getattr(plain(first), "ndim", 0) > 1


def _packed(X: Any, encoding: Encoding, what: str) -> Shaped[Tensor, "item ..."]:
    return _refused(packed, X, encoding, what)


def _refused(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives; its errors as scikit-learn's users expect them."""
    try:
        return function(*arguments)
    except MetaloomError as error:
        raise ValueError(str(error)) from None


def _files(thing: core.Learner | core.AdaptedTask) -> dict[str, bytes]:
    """The files that it saves itself in, by name."""
    with TemporaryDirectory() as folder:
        thing.save(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _unpacked(
    kind: type[core.Learner] | type[core.AdaptedTask], files: dict[str, bytes]
) -> core.Learner | core.AdaptedTask:
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return kind.load(folder)
