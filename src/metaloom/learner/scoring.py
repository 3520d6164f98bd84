"""Answers to fixed episodes against what is right."""

from __future__ import annotations

import torch
from torch import Tensor

from metaloom.learner.learner import Learner
from metaloom.tasks import EpisodeTable


def accuracy_and_nll(learner: Learner, examples: Tensor, episodes: EpisodeTable) -> dict[str, float]:
    """Mean accuracy over fixed episodes, and mean NLL in nats."""
    right, nll = scores(learner.answer(examples, episodes), episodes)
    return {"accuracy": float(right.mean()), "nll": float(nll.mean())}


def scores(log_probabilities: Tensor, episodes: EpisodeTable) -> tuple[Tensor, Tensor]:
    """Accuracy and NLL (nats) of each episode, from the log-probabilities of its queries; in float64, so on the host:
    Apple's GPUs have none."""
    log_probabilities = log_probabilities.cpu()
    ways, queries = episodes.query.shape[1:]
    labels = torch.arange(ways, device=log_probabilities.device).repeat_interleave(queries)
    right = (log_probabilities.argmax(dim=2) == labels).double().mean(dim=1)
    own = log_probabilities.gather(2, labels.expand(len(log_probabilities), -1)[..., None])[..., 0]
    return right, -own.double().mean(dim=1)
