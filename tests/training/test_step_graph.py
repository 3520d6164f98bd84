"""A step as one CUDA graph, as far as can be told without CUDA: a capture that does the work at each call stands in."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from trainers import Killed, shortened, tensors_of, trainer

from metaloom.errors import MetaloomError
from metaloom.methods import METHOD_CLASSES
from metaloom.training import graph
from metaloom.training import trainer as training
from metaloom.training.acceleration import halved
from metaloom.training.graph import EAGER, GraphedWork


def graphed(monkeypatch, captured) -> None:
    monkeypatch.setattr(graph, "captured", captured)
    monkeypatch.setattr(training.Trainer, "_way_to_work", lambda self: GraphedWork(self._work, self.learner.name))


@pytest.mark.parametrize(
    "name", ["protonet", *(pytest.param(each, marks=pytest.mark.slow) for each in ("maml", "shared"))]
)
def test_what_a_graph_repeats_stays_where_it_is_and_comes_to_the_same(name, tiny_settings, tmp_path, monkeypatch):
    plain = trainer(name, shortened(tiny_settings), tmp_path / "plain").run()
    places: list[set[int]] = []

    def captured(work, generator):
        def replay():
            figures = work()
            places.append({each.data_ptr() for each in state.params.statistics.values()})
            return figures

        return replay

    graphed(monkeypatch, captured)
    made = trainer(name, shortened(tiny_settings), tmp_path)
    state = made._begun()
    made._run(state)
    assert len(places) == 14 - EAGER and all(place == places[0] for place in places)
    assert state.history == plain.history
    for key, value in tensors_of(plain).items():
        assert torch.equal(value, tensors_of(state)[key]), key


def test_what_cannot_be_captured_goes_on_as_it_was_with_one_line(tiny_settings, tmp_path, monkeypatch, capsys):
    plain = trainer("shared", shortened(tiny_settings), tmp_path / "plain").run()

    def captured(work, generator):
        torch.rand((), generator=generator)  # a capture may have moved it on
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")  # as torch.cuda.graph does

    graphed(monkeypatch, captured)
    state = trainer("shared", shortened(tiny_settings), tmp_path).run()
    assert state.history == plain.history
    assert all(torch.equal(value, tensors_of(state)[key]) for key, value in tensors_of(plain).items())
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "shared: no CUDA graph (operation not permitted when stream is capturing): kernels are launched" in said


class Recorder(torch.cuda.CUDAGraph):
    """A CUDA graph that records nothing."""

    def __new__(cls) -> Recorder:
        return object.__new__(cls)

    def __init__(self) -> None: ...

    def register_generator_state(self, generator: torch.Generator) -> None: ...

    def replay(self) -> None: ...


def test_what_a_graph_reads_is_kept_as_long_as_it_can_be_replayed(monkeypatch):
    episodes = torch.ones(3)  # nobody but the work holds it
    freed = weakref.ref(episodes)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorder)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
    replay = graph.captured(partial(torch.sum, episodes), torch.Generator())
    del episodes
    assert freed() is not None and replay() == 3
    del replay
    assert freed() is None


@pytest.mark.parametrize("collected", [True, False])
def test_nothing_is_collected_during_a_capture(collected, monkeypatch):
    """Where an earlier graph is in a cycle of garbage, freeing it would break the capture."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorder)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
    seen = []

    def work() -> torch.Tensor:
        seen.append(gc.isenabled())
        return torch.zeros(1)

    before = gc.isenabled()
    try:
        (gc.enable if collected else gc.disable)()
        graph.captured(work, torch.Generator())
        assert seen == [False] and gc.isenabled() == collected
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"examples": torch.zeros(1, device="meta")}, "the examples are on the host"),
        ({"ranks": training.Ranks(0, 2)}, "several processes share a step"),
    ],
)
def test_why_there_is_no_graph(changes, why, tiny_settings, tmp_path):
    assert trainer("protonet", tiny_settings, tmp_path, **changes)._why_no_graph() == why


def test_a_loss_that_changes_cannot_be_a_graph(tiny_settings, tmp_path):
    annealed = tiny_settings.maml.model_copy(update={"multi_step": True, "inner_steps": 2})
    made = trainer("maml", tiny_settings.model_copy(update={"maml": annealed}), tmp_path)
    assert made._why_no_graph() == "the loss changes as training goes on"


@pytest.mark.parametrize("name", METHOD_CLASSES)
@pytest.mark.parametrize("options", [{}, {"multi_step": True}, {"multi_step": True, "inner_steps": 2}])
def test_methods_say_whether_their_loss_changes(name, options, tiny_settings, tmp_path):
    own = tiny_settings.method(name).model_copy(update=options if name == "maml" else {})
    made = trainer(name, tiny_settings.model_copy(update={name: own}), tmp_path)
    method, params = made.learner.method, made._fresh().params
    episodes = made.draw(torch.Generator().manual_seed(0))
    early, late = (method.loss(params, episodes, None, progress)[0] for progress in (0.0, 1.0))
    assert method.anneals == (not torch.equal(early, late))


@pytest.fixture
def rarely(monkeypatch):
    """Looked at as on a GPU, but every five steps."""
    monkeypatch.setattr(training.Trainer, "_look_every", 5)


def test_looking_rarely_changes_nothing_but_what_is_shown(rarely, tiny_settings, tmp_path, monkeypatch):
    shown: list[float] = []
    seldom = trainer(
        "protonet", shortened(tiny_settings), tmp_path, on_step=lambda step, loss: shown.append(loss)
    ).run()
    monkeypatch.undo()
    every: list[float] = []
    often = trainer(
        "protonet", shortened(tiny_settings), tmp_path / "often", on_step=lambda step, loss: every.append(loss)
    ).run()
    assert seldom.history == often.history
    assert shown[:4] == [every[0]] * 4  # the first, and none of the next until the validation after the fourth
    assert set(shown) < set(every)


def test_what_is_not_finite_is_found_before_a_checkpoint_with_its_step(rarely, tiny_settings, tmp_path):
    made = trainer("protonet", shortened(tiny_settings), tmp_path)
    loss_of, steps = made.learner.method.loss, iter(range(1, 100))

    def loss(params, *rest):
        value, params = loss_of(params, *rest)
        return value + (float("nan") if next(steps) == 6 else 0), params

    made.learner.method.loss = loss
    reached: list[int] = []
    with pytest.raises(MetaloomError, match="loss is nan and its gradient's norm .* at step 6; lower protonet"):
        replace(made, on_step=lambda step, loss: reached.append(step)).run()
    assert reached[-1] == 8
    again: list[int] = []
    trainer("protonet", shortened(tiny_settings), tmp_path, on_step=lambda step, loss: again.append(step)).run()
    assert again[0] == 5


@pytest.mark.parametrize(("tasks", "most", "fitting"), [(32, 100, 32), (32, 31, 16), (5, 4, 3), (5, 2, 2), (4, 0, 1)])
def test_tasks_are_halved_until_they_fit(tasks, most, fitting):
    assert halved(tasks, most) == fitting


@pytest.mark.slow
def test_a_resumed_run_takes_as_many_tasks_at_a_time_as_before(tiny_settings, tmp_path, monkeypatch):
    def kill(step: int, loss: float) -> None:
        if step == 7:
            raise Killed

    def sized(tasks: int) -> None:
        monkeypatch.setattr(training, "tasks_at_a_time", lambda *_: tasks)

    own = tiny_settings.maml.model_copy(update={"tasks_per_step": 4, "steps": 8})
    four = tiny_settings.model_copy(update={"maml": own})
    sized(1)
    whole = trainer("maml", four, tmp_path / "whole").run()
    with pytest.raises(Killed):
        trainer("maml", four, tmp_path, on_step=kill).run()
    sized(4)
    resumed = trainer("maml", four, tmp_path).run()
    assert resumed.tasks_at_a_time == 1
    assert resumed.history == whole.history
    assert trainer("maml", four, tmp_path / "other")._begun().tasks_at_a_time == 4
