"""One seed in params.yaml, and a stream of random numbers of its own for each thing that is drawn from it.

Generators that start from the same seed draw the same numbers, so that what they draw is not independent: a head's
first weights would be scaled copies of a network's. `numpy.random.SeedSequence` keeps the streams apart by spawn keys.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What is drawn. A number never changes its meaning: a trained model could not be made again."""

    WEIGHTS = 0  # with which a network starts
    TRAINING_WEIGHTS = 1  # further ones that exist only while training
    EPISODES = 2  # of training, and what is done to their examples


def generator(seed: int, stream: Stream, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the beginning of one stream of a seed.

    Args:
        seed: zero or more.
        stream: what is going to be drawn.
        device: where.
    """
    state = np.random.SeedSequence(seed, spawn_key=(int(stream),)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))
