"""Weights that exist only while training, and episodes that know their classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from trainers import CLASSES, COUNT, trainer

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.kinds.pictures.kind import Pictures
from metaloom.learner import Learner
from metaloom.tasks.sampler import EpisodeSampler


@pytest.fixture
def brief(tiny_settings):
    return tiny_settings.model_copy(update={"shared": tiny_settings.shared.model_copy(update={"steps": 4})})


def with_domains(made, heads: str):
    """The same trainer, its classes in three domains."""
    domains = np.arange(CLASSES) % 3
    table = pd.DataFrame({"domain": domains, "first": np.arange(CLASSES) * COUNT, "count": COUNT})
    method = made.learner.method
    method.settings = method.settings.model_copy(update={"heads": heads})
    return replace(made, sampler=EpisodeSampler.of(table, 3, 1, torch.device("cpu")))


def test_the_class_heads_are_trained_and_left_out_of_what_is_kept(brief, tmp_path):
    state = trainer("shared", brief, tmp_path).run()
    heads = {"training.head.weight", "training.head.bias"}
    assert set(state.params.weights) - set(state.best.weights) == heads
    assert state.params.weights["training.head.bias"].shape == (CLASSES,)
    assert bool(state.params.weights["training.head.bias"].detach().abs().min() > 0)
    made = trainer("shared", brief, tmp_path).learner
    replace(made, params=state.params).save(tmp_path)
    assert set(Learner.load(tmp_path).params.weights) == set(made.params.weights)


def test_a_head_for_each_domain_trains_and_needs_domains(brief, tmp_path):
    made = with_domains(trainer("shared", brief, tmp_path), "domain")
    losses = []
    replace(made, on_step=lambda step, loss: losses.append(loss)).run()
    assert 0 < losses[-1] < 2 * np.log(CLASSES / 3)
    with pytest.raises(MetaloomError, match="no domains"):
        replace(made, sampler=replace(made.sampler, domain=None), checkpoint=tmp_path / "another").run()


def test_episodes_say_which_classes_they_show(brief, tmp_path):
    """Pictures whose one bright corner tells the turn and whose other pixels tell the class."""
    plain = np.full((CLASSES * COUNT, 28, 28, 1), 0, np.uint8)
    plain[:] = (np.arange(CLASSES * COUNT) // COUNT)[:, None, None, None]
    plain[:, 0, 0] = 255
    made = trainer("shared", brief, tmp_path, examples=torch.from_numpy(plain))
    made = replace(
        with_domains(made, "all"),
        learner=replace(made.learner, encoding=PictureEncoding(Pictures(28, 1, rotations=True), (0.0,), (1.0,))),
    )
    made = replace(made, sampler=replace(made.sampler, views=4))
    episodes = made.draw(torch.Generator().manual_seed(0))
    assert episodes.classes is not None
    assert episodes.domains is not None
    shown = episodes.support_x[:, :: made.settings.n_shot, 0]
    torch.testing.assert_close(shown[..., 14, 14].long(), episodes.classes % CLASSES)
    corners = torch.stack([shown[..., 0, 0], shown[..., -1, 0], shown[..., -1, -1], shown[..., 0, -1]], dim=-1)
    assert torch.equal(corners.argmax(dim=-1), episodes.classes // CLASSES)
    assert torch.equal(episodes.domains[episodes.classes], episodes.classes % CLASSES % 3)
    parts = list(episodes.split(1))
    assert torch.equal(torch.cat([part.classes for part in parts if part.classes is not None]), episodes.classes)
