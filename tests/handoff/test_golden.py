"""Golden samples of the graphs that learn, against `Learner.adapt` in float64, which embeds each part again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from metaloom.config import Settings
from metaloom.handoff.bundle.golden import learned
from metaloom.learner import Learner
from metaloom.learner.temperature import Temperature

LABELS = np.array([0, 1, 2, 0, 1, 2, 0])


@pytest.mark.parametrize("name", ["protonet", "reptile"])
def test_a_task_is_what_the_method_makes_of_it(
    make_learner: Callable[..., Learner], tiny_settings: Settings, pictures: np.ndarray, name: str
):
    learner = make_learner(name, tiny_settings).tempered(Temperature(level=0.7))
    exact, support = replace(learner, params=learner.params.double()), pictures[: len(LABELS)]
    task, z = learned(exact, support, LABELS)
    whole = exact.adapt(support, LABELS)
    assert task.classes == whole.classes
    for mine, theirs in zip(task.model.head, whole.model.head, strict=True):
        assert mine.dtype == torch.float64
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        x = whole.encoding(torch.tensor(support)).double()
        expected, _ = whole.model.network(whole.model.weights, x, whole.model.statistics)
    torch.testing.assert_close(z, expected, rtol=1e-10, atol=1e-10)
