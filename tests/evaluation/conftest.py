"""Pictures that pixels tell apart, episodes of them, and learners that need no training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.tasks import EpisodeTable

WAYS = 3


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Six classes that pixels tell apart, eight items each."""
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.integers(0, 2, (6, 1, 4, 4, 1)) * 255, np.ones((7, 7, 1)))
    noisy = (patterns + rng.integers(-40, 40, (6, 8, 28, 28, 1))).clip(0, 255)
    return torch.from_numpy(noisy.astype(np.uint8).reshape(-1, 28, 28, 1))


@pytest.fixture(scope="session")
def tables() -> dict[str, EpisodeTable]:
    rng = np.random.default_rng(1)
    drawn = np.stack([rng.permutation(6)[:WAYS, None] * 8 + rng.permutation(8)[:4] for _ in range(5)])
    return {
        "3w2s": EpisodeTable(drawn[:, :, :2], drawn[:, :, 2:]),
        "3w1s": EpisodeTable(drawn[:, :, :1], drawn[:, :, 2:]),
    }


@pytest.fixture(scope="session")
def make(tiny_settings, images):
    """`make("protonet")`: random weights."""
    normalisation = PictureEncoding.of(images.numpy())
    return lambda name: Learner.create(name, tiny_settings, normalisation)


@pytest.fixture(scope="session")
def learner(make) -> Learner:
    return make("protonet")
