"""Episodes that are drawn while training."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from scipy.stats import chisquare

from metaloom.tasks.sampler import EpisodeSampler

CPU = torch.device("cpu")


def test_sampler_draws_every_item_and_only_of_its_class():
    first, count = torch.tensor([0, 5, 12]), torch.tensor([5, 7, 6])
    sampler = EpisodeSampler(first, count, 7, 1)
    rows, turns, classes = sampler.sample(400, 2, 4, torch.Generator().manual_seed(0))
    assert rows.shape == (400, 2, 4)
    assert not turns.any()
    bounds = torch.tensor([0, 5, 12, 18])
    of_way = torch.bucketize(rows, bounds, right=True) - 1
    assert (of_way == of_way[..., :1]).all()
    assert (of_way[:, 0, 0] != of_way[:, 1, 0]).all()
    assert torch.equal(of_way[..., 0], classes)
    assert all(len(example.unique()) == 4 for example in rows.flatten(0, 1))
    assert set(rows.flatten().tolist()) == set(range(18))


def test_rotated_classes_are_classes_of_their_own():
    sampler = EpisodeSampler(torch.tensor([0]), torch.tensor([5]), 5, 4)
    rows, turns, classes = sampler.sample(1, 4, 5, torch.Generator().manual_seed(0))
    assert sorted(turns[0].tolist()) == [0, 1, 2, 3]
    assert torch.equal(classes, turns)
    assert rows.max() < 5


def test_the_sampler_knows_the_domain_of_every_class_turned_or_not():
    table = pd.DataFrame({"domain": ["greek", "latin", "greek", "thai"], "first": [0, 5, 9, 14], "count": [5, 4, 5, 5]})
    sampler = EpisodeSampler.of(table, 5, 4, torch.device("cpu"))
    assert sampler.classes == 12
    assert sampler.domains is not None
    assert sampler.domains.tolist() == [0, 0, 1] * 4
    assert EpisodeSampler.of(table.drop(columns="domain"), 5, 4, torch.device("cpu")).domains is None


ALPHABETS = pd.DataFrame({"domain": ["a"] * 3 + ["b"] * 5 + ["c"] * 8, "first": range(0, 64, 4), "count": 4})


def within(share: float, n_way: int, views: int = 1, tasks: int = 2000) -> torch.Tensor:
    """The drawn classes of each task."""
    sampler = EpisodeSampler.of(ALPHABETS, 2, views, CPU, share)
    return sampler.sample(tasks, n_way, 2, torch.Generator().manual_seed(0))[2]


def domains_of(classes: torch.Tensor, views: int = 1) -> torch.Tensor:
    """Numbers of domains, counted again in every view."""
    codes = torch.tensor(pd.factorize(ALPHABETS["domain"])[0]).repeat(views)
    return codes[classes] + 3 * (classes // len(ALPHABETS))


@pytest.mark.parametrize("views", [1, 4])
def test_within_domains_all_classes_are_of_one_and_all_are_equally_likely(views):
    drawn = within(1.0, 3, views)
    groups = domains_of(drawn, views)
    assert (groups == groups[:, :1]).all()
    assert all(len(task.unique()) == 3 for task in drawn)
    assert chisquare(groups[:, 0].bincount(minlength=3 * views)).pvalue > 1e-3
    of_largest = drawn[groups[:, 0] == 2].flatten()
    assert chisquare(of_largest.bincount(minlength=16)[8:16]).pvalue > 1e-3


def test_domains_that_are_too_small_are_filled_up_from_others():
    drawn = within(1.0, 6)
    assert all(len(task.unique()) == 6 for task in drawn)
    for task in domains_of(drawn)[:200]:
        counts = dict(zip(*(each.tolist() for each in task.unique(return_counts=True)), strict=True))
        whole = sum(counts[group] == size for group, size in enumerate((3, 5, 8)) if group in counts)
        assert counts == {2: 6} or whole >= len(counts) - 1
    assert within(1.0, 16).sort().values.eq(torch.arange(16)).all()


def test_a_share_of_the_tasks_is_within_domains():
    groups = domains_of(within(0.3, 3))
    alone = (groups == groups[:, :1]).all(dim=1).double().mean()
    by_chance = (1 + 10 + 56) / 560  # of 16 over 3, those of one domain
    assert abs(float(alone) - (0.3 + 0.7 * by_chance)) < 0.04
