"""Images on the host, the network on another device: the meta device, which takes no tensor of the host's."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch
from test_bank_training import make_trainer
from trainers import CLASSES, COUNT, trainer

from metaloom.methods import METHOD_CLASSES
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training import checkpoint
from metaloom.training.bank.members import calibrated

HOST, DEVICE = torch.device("cpu"), torch.device("meta")


def on_device(made):
    return replace(made, learner=replace(made.learner, params=made.learner.params.to(DEVICE)))


@pytest.mark.parametrize("name", METHOD_CLASSES)
@pytest.mark.parametrize("heads", ["all", "domain"])
def test_a_step_takes_images_from_the_host(name, heads, tiny_settings, tmp_path):
    own = tiny_settings.shared.model_copy(update={"heads": heads})
    made = on_device(trainer(name, tiny_settings.model_copy(update={"shared": own}), tmp_path))
    table = pd.DataFrame({"domain": range(CLASSES), "first": range(0, CLASSES * COUNT, COUNT), "count": COUNT})
    made = replace(made, sampler=EpisodeSampler.of(table, 3, 1, HOST))
    state = made._fresh()
    assert {weight.device for weight in state.params.weights.values()} == {DEVICE}
    assert made._gradients(state).device == DEVICE
    episodes = made.draw(torch.Generator().manual_seed(0))
    assert episodes.domains is not None and episodes.domains.device == DEVICE


def test_a_banks_sharpness_is_chosen_with_images_on_the_host(tiny_settings, tmp_path):
    template = on_device(make_trainer(tiny_settings, tmp_path, ["blocks1", "dots1"]).template)
    with pytest.raises(RuntimeError, match="meta tensor"):  # it got as far as the figure, which a meta tensor has not
        calibrated(template.learner, template.examples, template.validation)


def test_a_resumed_optimiser_counts_its_steps_on_the_host(tiny_settings, tmp_path):
    made = trainer("protonet", tiny_settings, tmp_path)
    made.run()
    saved = checkpoint.read(made.checkpoint, made.fingerprint)
    state = saved and checkpoint.restored(saved, DEVICE, made._fresh, made._optimiser)
    assert state is not None and state.best is not None
    assert {tensor.device for group in (state.params, state.best) for tensor in group.weights.values()} == {DEVICE}
    for moments in state.optimiser.state.values():
        assert moments["step"].device == HOST
        assert moments["exp_avg"].device == moments["exp_avg_sq"].device == DEVICE
