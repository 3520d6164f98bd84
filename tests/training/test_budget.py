"""Budgets of seconds, with a clock that the test moves: a second a step, ten a validation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from trainers import Killed, trainer

from metaloom.training import trainer as training

STEP, VALIDATION = 1.0, 10.0


class Clock:
    """Moves on at each training step and each validation."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock, gradients, validate = Clock(), training.Trainer._gradients, training.accuracy_and_nll

    def slow_gradients(*args):
        clock.now += STEP
        return gradients(*args)

    def slow_validation(*args):
        clock.now += VALIDATION
        return validate(*args)

    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(training.Trainer, "_gradients", slow_gradients)
    monkeypatch.setattr(training, "accuracy_and_nll", slow_validation)
    return clock


def limited(tiny_settings, folder, seconds: float):
    made = trainer("protonet", tiny_settings, folder)
    return replace(made, settings=made.settings.model_copy(update={"max_seconds": seconds}))


def test_validations_count_and_none_is_made_twice(clock, tiny_settings, tmp_path):
    state = limited(tiny_settings, tmp_path, 27.0).run()
    assert [record["step"] for record in state.history] == [4, 8]  # 14, 28 seconds: no step after those is due
    assert state.seconds == 28


def test_the_last_step_within_the_budget_is_validated(clock, tiny_settings, tmp_path):
    state = limited(tiny_settings, tmp_path, 16.0).run()
    assert [record["step"] for record in state.history] == [4, 6]
    assert state.seconds == 26


def test_a_resumed_run_has_the_budget_that_its_checkpoint_leaves(clock, tiny_settings, tmp_path):
    def kill(step: int, loss: float) -> None:
        if step == 6:
            raise Killed

    whole = limited(tiny_settings, tmp_path / "whole", 27.0).run()
    with pytest.raises(Killed):
        replace(limited(tiny_settings, tmp_path, 27.0), on_step=kill).run()
    clock.now += 1000  # the machine was off
    resumed = limited(tiny_settings, tmp_path, 27.0).run()
    assert resumed.history == whole.history
    assert resumed.seconds == whole.seconds


def test_making_machine_code_does_not_count_and_leaves_the_run_as_it_was(clock, tiny_settings, tmp_path, monkeypatch):
    plain = limited(tiny_settings, tmp_path / "plain", 27.0).run()
    loss_of = training.loss_of

    def compiled_at_first(*args):
        loss, waits = loss_of(*args), [1000.0]

        def first_slow(*each):
            clock.now += waits.pop() if waits else 0.0
            return loss(*each)

        return first_slow

    monkeypatch.setattr(training, "loss_of", compiled_at_first)
    slow = limited(tiny_settings, tmp_path, 27.0).run()
    assert (slow.seconds, slow.history) == (plain.seconds, plain.history)


@pytest.mark.parametrize("name", ["protonet", "maml", "shared"])
def test_warming_up_changes_nothing(name, tiny_settings, tmp_path):
    settings = tiny_settings.model_copy(update={name: tiny_settings.method(name).model_copy(update={"steps": 5})})
    unlimited = trainer(name, settings, tmp_path / "unlimited")
    ample = trainer(name, settings, tmp_path, settings=unlimited.settings.model_copy(update={"max_seconds": 1e9}))
    expected, state = unlimited.run(), ample.run()
    assert state.history == expected.history
    for key, weight in state.params.weights.items():
        assert torch.equal(weight, expected.params.weights[key]), key


def test_a_spent_budget_takes_no_further_step(clock, tiny_settings, tmp_path):
    limited(tiny_settings, tmp_path, 16.0).run()
    steps: list[int] = []
    again = replace(limited(tiny_settings, tmp_path, 16.0), on_step=lambda step, loss: steps.append(step)).run()
    assert steps == []
    assert again.step == 6
