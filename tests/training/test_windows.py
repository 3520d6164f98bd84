from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from metaloom.config import Settings
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.kind import Pictures
from metaloom.training.bank.windows import describe_domains, windows


def bank_settings(settings: Settings, window: int, stride: int):
    return settings.bank.model_copy(update={"window": window, "stride": stride})


def random_domains(number: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"domain{seed}-{index}": rng.normal(size=5).astype(np.float32) for index in range(number)}


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2), (4, 4), (12, 5)])
def test_every_domain_is_in_a_window_of_the_right_size(window, stride, settings):
    domains = random_domains(12, seed=1)
    found = windows(domains, bank_settings(settings, window, stride))
    assert set().union(*found) == set(domains)
    assert {len(each) for each in found} == {window}
    assert len(set(found)) == len(found)


def test_windows_are_of_neighbours(settings):
    """Each is some domain and the ones nearest to it, by distances of numpy's own."""
    domains = random_domains(15, seed=2)
    places = np.stack(list(domains.values()))
    far = np.linalg.norm(places[:, None] - places[None], axis=2)
    nearest = {tuple(sorted(list(domains)[i] for i in np.argsort(row)[:4])) for row in far}
    assert set(windows(domains, bank_settings(settings, 4, 3))) <= nearest


def test_windows_depend_on_no_order(settings):
    domains = random_domains(10, seed=3)
    backwards = dict(reversed(domains.items()))
    assert windows(domains, bank_settings(settings, 3, 2)) == windows(backwards, bank_settings(settings, 3, 2))


def test_a_window_slides_only_where_the_new_domain_comes_into_it(settings):
    """Over many sets of 20 domains: new windows hold the new domain, but for a few (1 in 10, measured) that
    serve a neighbour which the new domain has pushed out of its window."""
    own = bank_settings(settings, 4, 3)
    without, kept, total = 0, 0, 0
    for seed in range(100):
        domains = random_domains(20, seed)
        *old, newcomer = domains
        before, after = windows({name: domains[name] for name in old}, own), windows(domains, own)
        fresh = set(after) - set(before)
        assert any(newcomer in window for window in fresh)
        without += sum(newcomer not in window for window in fresh)
        kept, total = kept + len(set(after) & set(before)), total + len(after)
    assert kept > 0.75 * total
    assert without < 0.03 * total


def test_a_domain_is_described_by_its_own_images_alone():
    images = torch.randint(0, 256, (40, 28, 28, 1), dtype=torch.uint8)
    table = pd.DataFrame({"domain": list("abab"), "first": [0, 10, 20, 30], "count": 10})
    both = describe_domains(Pictures(28, 1), images, table)
    again = describe_domains(Pictures(28, 1), images[:30], table[[True, False, True, False]])
    np.testing.assert_array_equal(both["a"], again["a"])
    assert not np.array_equal(both["a"], both["b"])


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (5, 1, r"bank.window is 5, but the training split has 4 domains; the largest that works is 4"),
        (2, 3, r"bank.stride is 3, which is more than bank.window \(2\).*largest that works is 2"),
    ],
)
def test_windows_that_do_not_fit_are_refused(window, stride, message, settings):
    with pytest.raises(MetaloomError, match=message):
        windows(random_domains(4, seed=0), bank_settings(settings, window, stride))
