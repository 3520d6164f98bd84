"""Streams of random numbers against NumPy's own spawning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaloom.system.seeds import Stream, generator


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 1])
def test_a_stream_is_a_child_of_numpy_s_seed_sequence(seed):
    children = np.random.SeedSequence(seed).spawn(len(Stream))
    for stream in Stream:
        expected = int(children[stream].generate_state(1, np.uint64)[0])
        assert generator(seed, stream).initial_seed() == expected


def test_no_two_streams_or_seeds_draw_the_same():
    drawn = torch.stack([torch.rand(4, generator=generator(seed, s)) for seed in range(20) for s in Stream])
    assert len(drawn.unique(dim=0)) == len(drawn)
    assert torch.equal(torch.rand(4, generator=generator(3, Stream.EPISODES)), drawn[3 * len(Stream) + Stream.EPISODES])
