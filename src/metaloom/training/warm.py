"""Weights to start from: those of an earlier model, where they fit, instead of random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from metaloom.errors import MetaloomError
from metaloom.learner.learner import Learner
from metaloom.networks import Tensors

WEIGHTS = "model.safetensors"
FITS = 0.5  # share of the weights that has to fit, or the earlier model counts as another


def earlier_model(start: str | None, method: str) -> Path | None:
    """The folder of a method's earlier model below the folder that `train.start` names; None where it has none.

    A bank has none: it takes its networks over by itself.
    """
    found = Path(start, method) if start and method != "bank" else None
    return found if found and (found / WEIGHTS).is_file() else None


def taken_over(learner: Learner, model: Path) -> tuple[Learner, float]:
    """A fresh learner with the weights of an earlier model that have its names and shapes; the others stay fresh.

    Args:
        learner: fresh.
        model: folder of the earlier model.

    Returns:
        The learner, and the share of its weights that is the earlier model's: 0, and the learner as it is, where less
        than half fits.

    Raises:
        MetaloomError: the file of the weights is damaged.
    """
    try:
        saved = load_file(model / WEIGHTS, device=str(learner.device))
    except (SafetensorError, OSError) as error:
        raise MetaloomError(
            f"{model / WEIGHTS} cannot be read ({error}): take another folder for train.start"
        ) from None
    weights = _fitting(learner.params.weights, saved, "weights")
    share = _count(weights) / max(_count(learner.params.weights), 1)
    if share < FITS:
        return learner, 0.0
    params = replace(
        learner.params,
        weights=learner.params.weights | weights,
        statistics=learner.params.statistics | _fitting(learner.params.statistics, saved, "statistics"),
    )
    return replace(learner, params=params), share


def _fitting(fresh: Tensors, saved: Mapping[str, Tensor], group: str) -> Tensors:
    found = {name: saved.get(f"{group}/{name}") for name in fresh}
    return {
        name: tensor.to(fresh[name].dtype)
        for name, tensor in found.items()
        if tensor is not None and tensor.shape == fresh[name].shape and bool(tensor.isfinite().all())
    }


def _count(tensors: Tensors) -> int:
    return sum(each.numel() for each in tensors.values())
