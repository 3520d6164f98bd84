"""Every method on a device that has no float64 and takes nothing of the host's: `fake_device`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_device import DEVICE, device
from trainers import COUNT, images_of_classes, trainer

from metaloom.evaluation.answers import meta_answers
from metaloom.learner.estimate import cross_validated
from metaloom.methods import METHOD_CLASSES


def on_it(made):
    return replace(made, learner=replace(made.learner, params=made.learner.params.to(DEVICE)))


def short(name, tiny_settings, **own):
    method = tiny_settings.method(name).model_copy(update={"steps": 2} | own)
    return tiny_settings.model_copy(update={name: method})


def test_what_the_device_refuses(monkeypatch):
    with device(monkeypatch, doubles=False):
        one = torch.ones(3, device=DEVICE)
        assert (one + 1).sum().item() == 6
        with pytest.raises(RuntimeError, match="on the host and on the device"):
            one + torch.ones(3)
        for double in (one.double, lambda: torch.zeros(2, dtype=torch.float64, device=DEVICE)):
            with pytest.raises(TypeError, match="no float64"):
                double()
        assert one.cpu().double().tolist() == [1, 1, 1]


QUICK = ("protonet", "maml")  # the others in `make test-slow`


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in METHOD_CLASSES]
)
def test_a_method_is_trained_evaluated_and_adapted_as_on_the_host(name, tiny_settings, tmp_path, monkeypatch):
    settings, pictures, ways = short(name, tiny_settings), images_of_classes()[: 3 * COUNT], np.arange(3).repeat(COUNT)

    def figures(made) -> dict[str, np.ndarray]:
        nll = [record["nll"] for record in made.run().history]
        learner = made.learner
        told = meta_answers(learner, made.examples, {"": made.validation})[""].log_p
        adapted = learner.adapt(pictures, ways).predict_proba(pictures)
        assert cross_validated(learner, pictures, ways, 0)
        return {"training": np.array(nll), "answers": told, "adapted": adapted}

    here = figures(trainer(name, settings, tmp_path / "here"))
    with device(monkeypatch, doubles=False):
        made = on_it(trainer(name, settings, tmp_path / "there"))
        assert made.learner.device == DEVICE
        there = figures(made)
    for key, expected in here.items():
        np.testing.assert_allclose(there[key], expected, rtol=1e-2, atol=1e-3, err_msg=key)


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_a_step_brings_nothing_to_the_device_and_reads_nothing_there(name, tiny_settings, tmp_path, monkeypatch):
    own = {"inner_steps": 2, "first_order": False} if name == "maml" else {}
    with device(monkeypatch, doubles=False) as mode:
        made = on_it(trainer(name, short(name, tiny_settings, **own), tmp_path))
        state = made._begun()
        episodes = made.draw(state.generator)  # the generator is on the host: what it draws comes from there
        monkeypatch.setattr(type(made), "draw", lambda self, generator: episodes)
        made._step(state, made._work)  # the first may fill what is kept
        mode.moved.clear()
        made._step(state, made._work)
        assert mode.moved == []
