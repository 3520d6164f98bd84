"""Five views of a picture, against NumPy's padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaloom.kinds.pictures.shifted import Shifted
from metaloom.methods import build_method
from metaloom.networks import Conv4

PLAIN = Conv4(shape=(1, 28, 28), width=8, norm="group")
X = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def moved(x: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """By so many pixels, the edge repeated."""
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="edge")
    return torch.from_numpy(np.roll(wide, (down, right), (2, 3))[:, :, 4:-4, 4:-4].copy())


@pytest.mark.parametrize("shift", [1, 3])
def test_an_answer_is_the_mean_over_the_picture_and_its_moves_to_the_four_sides(shift):
    network, weights = Shifted.of(PLAIN, shift), PLAIN.init(torch.Generator().manual_seed(0))
    views = [moved(X, *by) for by in ((0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift))]
    expected = torch.stack([PLAIN(weights, view)[0] for view in views]).mean(dim=0)
    torch.testing.assert_close(network(weights, X, {})[0], expected)
    of_tasks, _ = network(weights, torch.stack([X, X.flip(-1)]), {})
    torch.testing.assert_close(of_tasks[0], expected)


def test_training_sees_one_view():
    weights = PLAIN.init(torch.Generator().manual_seed(0))
    assert torch.equal(Shifted.of(PLAIN, 1)(weights, X)[0], PLAIN(weights, X)[0])


def test_of_replaces_a_shift_and_zero_is_the_network_itself():
    assert Shifted.of(PLAIN, 0) is PLAIN
    assert Shifted.of(Shifted.of(PLAIN, 2), 0) is PLAIN
    assert Shifted.of(Shifted.of(PLAIN, 2), 1) == Shifted.of(PLAIN, 1)


@pytest.mark.parametrize("name", ["protonet", "ridge", "bank"])
def test_its_setting_changes_answers_and_no_training(name, tiny_settings):
    method, shifted = (build_method(name, Shifted.of(PLAIN, shift), tiny_settings.method(name)) for shift in (0, 1))
    params = method.init(torch.Generator().manual_seed(0))
    assert set(shifted.init(torch.Generator().manual_seed(0)).weights) == set(params.weights)
    assert shifted.network.one == PLAIN
    labels = torch.arange(3)
    plain, five = (each.adapt(params, X, labels, 3).logits(X) for each in (method, shifted))
    assert (plain - five).abs().max() > 1e-4
