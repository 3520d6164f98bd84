"""Draws without replacement, from pools that are put in order and from pools that are not."""

from __future__ import annotations

import time

import pandas as pd
import pytest
import torch
from scipy.stats import chi2

from metaloom.tasks.distinct import distinct
from metaloom.tasks.sampler import EpisodeSampler

LARGE = 40  # more than 16 times 2: with `small` 0 it is not put in order


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("small", [0, 64])
def test_every_ordered_draw_is_equally_likely(small):
    rows = 100_000
    drawn = distinct(2, torch.full((rows,), LARGE), LARGE, small, seeded())
    counts = torch.bincount(drawn[:, 0] * LARGE + drawn[:, 1], minlength=LARGE**2).double()
    pairs = counts.view(LARGE, LARGE)
    assert not pairs.diagonal().any()
    expected = rows / (LARGE * (LARGE - 1))
    statistic = float((pairs - expected).fill_diagonal_(0).square().sum() / expected)
    assert 1e-3 < chi2.sf(statistic, LARGE * (LARGE - 1) - 1) < 1 - 1e-3


def test_many_draws_are_distinct_and_within_their_pool():
    sizes = torch.tensor([[1000, 960, 5_000_000], [60, 961, 10**12]])
    drawn = distinct(60, sizes, 10**12, 0, seeded())
    assert drawn.shape == (2, 3, 60)
    assert ((drawn >= 0) & (drawn < sizes[..., None])).all()
    assert all(len(row.unique()) == 60 for row in drawn.flatten(0, 1))


def test_small_pools_beside_large_ones_are_drawn_evenly():
    rows = 30_000
    sizes = torch.tensor([3, LARGE]).repeat(rows, 1)
    drawn = distinct(1, sizes, LARGE, 0, seeded(1))[..., 0]
    for column, size in ((0, 3), (1, LARGE)):
        counts = torch.bincount(drawn[:, column], minlength=size).double()
        statistic = float((counts - rows / size).square().sum() * size / rows)
        assert 1e-3 < chi2.sf(statistic, size - 1) < 1 - 1e-3


def test_small_pools_are_put_in_random_order():
    """The draws of earlier versions, so that a seed gives the same run."""
    first, count = torch.arange(12) * 6, torch.full((12,), 6)
    rows, turns, _ = EpisodeSampler(first, count, 6, 4).sample(2, 5, 3, seeded(7))
    generator = seeded(7)
    chosen = torch.rand(2, 48, generator=generator).topk(5).indices
    order = torch.rand(2, 5, 6, generator=generator).topk(3).indices
    assert torch.equal(turns, chosen // 12)
    assert torch.equal(rows, first[chosen % 12][..., None] + order)


def test_a_generator_gives_the_same_draws_again_and_no_tensor_leaves_the_device():
    sizes = torch.tensor([10_000, 70])
    draws = [distinct(5, sizes, 10_000, 0, seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert distinct(5, sizes.to("meta"), 10_000, 0, None).is_meta


def test_sampling_takes_no_longer_from_more_classes_and_examples():
    def seconds(classes: int, count: int) -> float:
        table = pd.DataFrame({"first": torch.arange(classes).numpy() * count, "count": count})
        sampler, generator = EpisodeSampler.of(table, 6, 4, torch.device("cpu")), seeded()
        times = []
        for _ in range(30):
            started = time.process_time()
            sampler.sample(1, 60, 6, generator)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(1_000_000, 100_000) < 3 * seconds(2_000, 1_000) + 1e-3
