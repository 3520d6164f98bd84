"""A few steps of everything that takes long in a run, timed: of each method, and of each single-task learner."""

from __future__ import annotations

import itertools
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaloom.baselines import BASELINES, Features, answer_all
from metaloom.baselines.run import Answered, Request
from metaloom.config import PRETRAIN, Settings
from metaloom.data.packed import Dataset
from metaloom.learner import Learner
from metaloom.learner.scoring import accuracy_and_nll
from metaloom.learner.temperature import LabelledLogits, Temperature
from metaloom.measuring.rates import Learns, MethodRate, Rates, SingleTaskRate
from metaloom.stages.pretrain import own_settings
from metaloom.stages.train import of_method, trainer_of, training_classes
from metaloom.system.device import choose_device, finish
from metaloom.system.parallel import cores
from metaloom.system.terminal import bar, say, shows_bars
from metaloom.tasks import EpisodeTable
from metaloom.tasks.studies import is_of_study
from metaloom.training.bank.trainer import BankState

STEPS = 5  # of training; the first one makes machine code and is not counted
STEPS_ALONE = 2  # of a network that is trained on a support set
REPEATS = 2  # of all else
ASKED = 8  # validation episodes of a method that adapts the whole network
FEW = 2  # episodes of a single-task learner that is quick
MOST_LINES = 5  # in a log, that tell what is measured


@dataclass(frozen=True)
class Stopwatch:
    """Times work, and shows what is measured.

    Args:
        spent: seconds since the run began.
        clock: in seconds.
        told: what a log has been told so far.
    """

    spent: Callable[[], float]
    clock: Callable[[], float] = time.perf_counter
    told: list[str] = field(default_factory=list)

    def quickest(self, work: Callable[[], Any], repeats: int = REPEATS) -> float:
        """Seconds of the quickest of several turns: what else the machine does makes them longer, never shorter."""
        times = []
        for _ in range(repeats):
            began = self.clock()
            work()
            times.append(self.clock() - began)
        return min(times)

    def text(self) -> str:
        """What a progress bar says."""
        return f"{self.spent():.0f} s so far"

    def tell(self, what: str) -> None:
        """A line in a log, where no bar is seen."""
        if not shows_bars() and len(self.told) < MOST_LINES:
            self.told.append(what)
            say(f"measuring {what} ({self.text()})")

    @contextmanager
    def shown(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar; gives what takes the number of things that are done."""
        with bar(f"measure {what}", total, self.text()) as running:
            yield lambda done: running.update(done, self.text())


def measure(
    settings: Settings,
    dataset: str,
    splits: Path,
    tables: Mapping[str, EpisodeTable],
    start: float,
    splitting: float,
    watch: Stopwatch,
    so_far: Callable[[Rates], None] = lambda rates: None,
) -> Rates:
    """Time a few steps of everything.

    Args:
        settings: with a value for everything.
        dataset: folder of the stage `embed`.
        splits: folder of the splits and episodes; nothing but these is read, and checkpoints are written there.
        tables: the episodes that single-task learners are asked, by name.
        start, splitting: see `Rates`.
        watch: that times it.
        so_far: hears what is known once the methods have been measured; what it raises ends the measuring.
    """
    packed, names, wide = Dataset.load(dataset), (*settings.methods, PRETRAIN), f"{settings.network.width} wide"
    watch.tell(f"{', '.join(names)}, {wide}")
    steps = {
        name: _trained(name, settings if name != PRETRAIN else own_settings(settings), packed, dataset, splits, watch)
        for name in names
    }
    trained = {name: rate for name, (_, rate) in steps.items()}
    so_far(Rates.at_least(start, splitting, trained))
    watch.tell(f"single-task learners, {wide}")
    (first, _), (pretrained, _) = steps[settings.methods[0]], steps[PRETRAIN]
    alone = _alone(settings, torch.from_numpy(packed.examples), tables, first, pretrained, watch)
    fit = watch.quickest(partial(Temperature.fitted, [_guesses(next(iter(tables.values())).first(ASKED))]))
    return Rates(start, splitting, fit, trained, alone, _memory())


def _guesses(table: EpisodeTable) -> LabelledLogits:
    """Made-up logits for the episodes of a table, as of a learner that is right more often than not."""
    labels = np.tile(table.answers, len(table))
    logits = np.random.default_rng(0).normal(size=(len(labels), table.n_way)) + 2 * np.eye(table.n_way)[labels]
    return LabelledLogits(table.n_way, len(table.labels) / table.n_way, logits, labels)


def starting(watch: Stopwatch) -> float:
    """Seconds until a stage's process has begun its work: DVC's part, the stage's own, and the check of its engine."""
    watch.tell("the start of a stage")
    check = "from metaloom.networks.engine import machine_code; machine_code()"
    command = [sys.executable, "-c", f"import dvc.repo, metaloom.stages.evaluate; {check}"]
    with watch.shown("the start of a stage", REPEATS):
        return watch.quickest(lambda: subprocess.run(command, check=True))


def _trained(
    name: str, settings: Settings, packed: Dataset, dataset: str, splits: Path, watch: Stopwatch
) -> tuple[Learner, MethodRate]:
    device, training = choose_device(settings.device), training_classes(str(splits))
    few = settings.method(name).model_copy(update={"steps": STEPS})
    shortened = settings.model_copy(update={name: few})
    trainer = trainer_of(name, shortened, packed, training, dataset, str(splits), device, code="")
    times: list[float] = []
    asked = trainer.validation if trainer.learner.method.frozen else trainer.validation.first(ASKED)
    to_the_end = trainer.settings.model_copy(update={"max_seconds": None, "validate_every": STEPS})
    with watch.shown(f"{name}, {settings.network.width} wide", STEPS) as done:

        def note(*_: Any) -> None:
            finish(device)
            times.append(watch.clock())
            done(len(times) % STEPS)

        shown = replace(
            trainer,
            settings=to_the_end,
            on_step=note,
            validation=trainer.validation.first(1),
            checkpoint=splits / f"{name}.safetensors",
        )
        state = of_method(shown, training, str(splits / "no_model")).run()
        params = None if isinstance(state, BankState) else state.params.kept().detached()
        learner = state.learner if isinstance(state, BankState) else replace(trainer.learner, params=params)
        seconds = watch.quickest(lambda: accuracy_and_nll(learner, trainer.examples, asked))
    step = min(later - earlier for earlier, later in itertools.pairwise(times[:STEPS]))
    learns, shape = Learns.of(learner), learner.method.network.shape
    return learner, MethodRate(learns, shape, len(times) // STEPS, step, seconds / learns.passes(asked))


def _alone(
    settings: Settings,
    examples: torch.Tensor,
    tables: Mapping[str, EpisodeTable],
    first: Learner,
    pretrained: Learner,
    watch: Stopwatch,
) -> dict[str, SingleTaskRate]:
    sample = sampled(tables)
    features = Features.of(examples, sample.values(), first, pretrained)
    requests: list[Request] = []
    for learner, baseline in BASELINES.items():
        candidates = baseline.candidates(settings.baselines)
        choice = candidates[len(candidates) // 2]
        if baseline.fit is None:
            choice |= {"steps": STEPS_ALONE, "epochs": 0}
        for size in _telling(sorted(sample), choice.get("batch", math.inf)):
            few = sample[size].first(max(FEW, baseline.together(learner, features, choice, size)))
            requests += [Request((learner, size, turn), learner, choice, few) for turn in range(REPEATS)]
    answered = answer_all(features, requests, f"measure single-task learners, {watch.text()}")
    return {learner: _of_learner(learner, answered) for learner in BASELINES}


def sampled(tables: Mapping[str, EpisodeTable]) -> dict[int, EpisodeTable]:
    """Some episodes of each size that is asked for most, of the smallest and the largest, by labelled examples.

    One of the largest: it may take as long as all others.
    """
    by_size = sorted(tables.values(), key=lambda table: len(table.labels))
    fixed = [table for name, table in tables.items() if not is_of_study(name)]
    few = {len(table.labels): table.first(10) for table in (by_size[0], *fixed)}
    return {len(by_size[-1].labels): by_size[-1].first(1)} | few


def _telling(sizes: Sequence[int], batch: float) -> list[int]:
    """Those of the ascending sizes that take a step of different lengths: beyond a batch all take the same."""
    return [size for place, size in enumerate(sizes) if place == 0 or sizes[place - 1] < batch]


def _of_learner(learner: str, answered: Mapping[Any, Answered]) -> SingleTaskRate:
    steps = STEPS_ALONE if BASELINES[learner].fit is None else 1
    sizes = sorted({size for name, size, _ in answered if name == learner})
    turns = {size: [answered[learner, size, turn] for turn in range(REPEATS)] for size in sizes}
    right = {
        size: [each for each in own if not each.failed.any()] for size, own in turns.items()
    }  # others took no time
    tasks = {size: min(each.adapt_seconds for each in own) / steps for size, own in right.items() if own}
    queries = [each.predict_seconds for each in right[sizes[-1]]]
    return SingleTaskRate(tasks or {1: 0.0}, min(queries, default=0.0))


def _memory() -> int:
    """Bytes of memory at the peak: of this process or of all of its children together, whichever is more."""
    unit = 1 if sys.platform == "darwin" else 1024
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(own, child * cores()) * unit
