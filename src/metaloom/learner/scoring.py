"""Answers to fixed episodes against what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metaloom.learner.learner import Learner
from metaloom.tasks import EpisodeTable

Z = 1.96  # of a 95% interval


def mean_and_half_width(values: Float[np.ndarray, " episode"]) -> tuple[float, float]:
    """The mean and the half width of its 95% interval by the normal approximation; zero for a single value."""
    spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), float(Z * spread)


def accuracy_and_nll(learner: Learner, examples: Tensor, episodes: EpisodeTable) -> dict[str, Any]:
    """Mean accuracy over fixed episodes with the half width of its 95% interval, and mean NLL in nats."""
    right, nll = scores(learner.answer(examples, episodes), episodes)
    accuracy, half = mean_and_half_width(right.numpy())
    return {"accuracy": accuracy, "ci95": half, "nll": float(nll.mean())}


def scores(log_probabilities: Tensor, episodes: EpisodeTable) -> tuple[Tensor, Tensor]:
    """Accuracy and NLL (nats) of each episode, from the log-probabilities of its queries; in float64, so on the host:
    Apple's GPUs have none."""
    log_probabilities = log_probabilities.cpu()
    ways, queries = episodes.query.shape[1:]
    labels = torch.arange(ways, device=log_probabilities.device).repeat_interleave(queries)
    right = (log_probabilities.argmax(dim=2) == labels).double().mean(dim=1)
    own = log_probabilities.gather(2, labels.expand(len(log_probabilities), -1)[..., None])[..., 0]
    return right, -own.double().mean(dim=1)
