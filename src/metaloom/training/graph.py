"""A training step as one CUDA graph: its kernels start at once, where they otherwise wait for Python one by one.

A graph repeats what was done while it was captured, on the same memory. So what changes from step to step has to lie on
the device and stay where it is: the generator, the statistics, the learning rate, the optimiser's count of steps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloom.system.terminal import say
from metaloom.training.checkpoint import State

EAGER = 3  # steps before it, which choose algorithms and fill what is kept: a capture must not be the first


@dataclass
class GraphedWork:
    """Does a step's work as it is, and from the fourth step on as a graph, where it can be captured.

    Args:
        work: all that a step does on the device with the state of a run; gives figures of it.
        name: of the method, for the line that says why there is no graph.
    """

    work: Callable[[State], Tensor]
    name: str
    _done: int = 0
    _replay: Callable[[], Tensor] | None = None

    def __call__(self, state: State) -> Tensor:
        """The figures of the next step; the state is the same one every time."""
        if self._done == EAGER:
            self._replay = self._captured(state)
        self._done += 1
        return self.work(state) if self._replay is None else self._replay()

    def _captured(self, state: State) -> Callable[[], Tensor] | None:
        params, drawn = state.params, state.generator.get_state()
        try:
            return captured(lambda: self._in_place(state), state.generator)
        except RuntimeError as error:  # whatever CUDA, cuDNN or cuBLAS cannot do in a capture
            first = error.__context__ or error  # ending the capture raises too
            why = str(first).strip().splitlines()[0]
            say(f"{self.name}: no CUDA graph ({why}): kernels are launched one by one")
            state.generator = torch.Generator(state.generator.device)  # the other may still be in the capture
            state.generator.set_state(drawn)
            return None
        finally:
            state.params = params

    def _in_place(self, state: State) -> Tensor:
        """The work, with statistics that stay where they are."""
        before = state.params
        figures = self.work(state)
        for name, value in before.statistics.items():
            value.copy_(state.params.statistics[name])
        state.params = before
        return figures


def captured(work: Callable[[], Tensor], generator: torch.Generator) -> Callable[[], Tensor]:
    """The work as a graph; each call of what is returned does it once, and draws on from the generator.

    Raises:
        RuntimeError: it cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with _garbage_kept(), torch.cuda.graph(graph):
        figures = work()

    return _Replay(graph, figures, work)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Without the collector: an earlier run's graph, freed in the middle of a capture, would break it."""
    gc.collect()
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@dataclass(frozen=True)
class _Replay:
    """One more run of a graph, which reads the memory of what its work holds: both stay as long as it does."""

    graph: torch.cuda.CUDAGraph
    figures: Tensor
    work: Callable[[], Tensor]

    def __call__(self) -> Tensor:
        self.graph.replay()
        return self.figures.clone()
