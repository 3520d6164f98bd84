"""Meta-training: draw episodes, step, validate, keep the best; survives being killed at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from jaxtyping import Shaped
from torch import Tensor

from metaloom.config import TrainSettings
from metaloom.errors import MetaloomError
from metaloom.learner.learner import Learner
from metaloom.learner.placement import picked
from metaloom.learner.scoring import accuracy_and_nll
from metaloom.methods.model import Episodes, Params
from metaloom.system.seeds import Stream, generator
from metaloom.system.terminal import say
from metaloom.tasks import EpisodeTable
from metaloom.tasks.limits import check_shares, check_ways
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training import checkpoint
from metaloom.training.acceleration import Loss, loss_of, precision_of, repeatable, tasks_at_a_time
from metaloom.training.checkpoint import State
from metaloom.training.graph import GraphedWork
from metaloom.training.losses import LOOK_EVERY, Losses
from metaloom.training.ranks import ALONE, Ranks

WARM_UP = 20  # steps over which the learning rate rises


@dataclass(frozen=True)
class Trainer:
    """One method's training run.

    Args:
        learner: fresh; its parameters are where training starts.
        examples: the whole data set, raw, on the learner's device or on the host.
        sampler: of training classes, where the examples are.
        validation: the fixed episodes that early stop and selection look at.
        settings: budget and shapes of the episodes.
        seed: of the episodes and of the weights that exist only while training, a stream each.
        checkpoint: a file that is written at every validation.
        fingerprint: of everything that the run depends on; a checkpoint with another one is not resumed.
        code: that part of the fingerprint which is of the code, the same for all data and settings.
        ranks: the processes that share the work; the first one validates and writes the checkpoint.
        on_step: called with the step and its loss; on a GPU with the loss that was last looked at.
        on_validation: called with each record of the history, those of a resumed run included.
    """

    learner: Learner
    examples: Shaped[Tensor, "item ..."]
    sampler: EpisodeSampler
    validation: EpisodeTable
    settings: TrainSettings
    seed: int
    checkpoint: Path
    fingerprint: str
    code: str
    ranks: Ranks = ALONE
    on_step: Callable[[int, float], None] = lambda step, loss: None
    on_validation: Callable[[dict[str, Any]], None] = lambda record: None

    def run(self) -> State:
        """Train until the budget is spent or validation stops improving.

        Raises:
            MetaloomError: the loss, its gradient or the NLL of a validation is not finite, the training classes are
                too few, or the processes cannot share out the tasks of a step.
        """
        self._check()
        device = self.learner.device
        with self.learner.method.network.threads(device), repeatable(self.settings, device):
            return self._run(self._resumed() or self._begun())

    def _run(self, state: State) -> State:
        for record in state.history:
            self.on_validation(record)
        if self.settings.max_seconds is not None and not self._done(state):
            self._warm_up(state)
        started, work = time.perf_counter() - state.seconds, self._way_to_work()
        losses = Losses(self._look_every, self._refuse)
        while not self._done(state):
            figures = self._step(state, work)
            losses.add(state.step, figures)
            state.seconds = self._since(started)
            self.on_step(state.step, losses.last)
            spent = self._progress(state) >= 1
            if state.step % self.settings.validate_every == 0 or spent:
                self._validate(state, losses.mean(state.step))
                state.seconds = self._since(started)
                if self.ranks.first:
                    checkpoint.save(state, self.checkpoint, self.fingerprint)
        return state

    def _warm_up(self, state: State) -> None:
        """Have machine code made (by numba, by torch.compile) before the clock starts, in all processes.

        A step of a run that is thrown away, and a validation of one episode: the run itself is as it was.
        """
        fresh = self._fresh()
        fresh.tasks_at_a_time = state.tasks_at_a_time
        self._gradients(fresh)
        self.ranks.agreed(lambda: accuracy_and_nll(self.learner, self.examples, self.validation.first(1)))

    def _since(self, started: float) -> float:
        """Seconds; the first process's in all of them where it is they that end the run."""
        if self.settings.max_seconds is None:
            return time.perf_counter() - started
        return self.ranks.agreed(lambda: time.perf_counter() - started)

    def discard_checkpoint(self) -> None:
        """Remove the checkpoint: the model is in place."""
        self.checkpoint.unlink(missing_ok=True)

    def _check(self) -> None:
        name, own = self.learner.name, self.learner.method.settings
        check_shares(self.ranks.count, name, own.tasks_per_step)
        check_ways(name, own.n_way, self.sampler.classes, self.settings.examples)

    def _fresh(self) -> State:
        own = generator(self.seed, Stream.TRAINING_WEIGHTS, self.examples.device)
        further = self.learner.method.training_weights(own, self.sampler.classes)
        weights = self.learner.params.weights | {k: v.to(self.learner.device) for k, v in further.items()}
        params = replace(self.learner.params, weights=weights).detached()
        episodes = generator(self.seed, Stream.EPISODES, self.examples.device)
        return State(params, self._optimiser(params), episodes)

    def _begun(self) -> State:
        """Fresh, with so many tasks at a time as fit the memory; those of the first process in all of them."""
        state = self._fresh()

        def one_task() -> None:
            draws = generator(self.seed, Stream.EPISODES, self.examples.device)
            with precision_of(self.settings):
                self.learner.method.loss(state.params, next(self.draw(draws).split(1)))[0].backward()

        tasks, device = self.learner.method.settings.tasks_per_step // self.ranks.count, self.learner.device
        state.tasks_at_a_time = self.ranks.agreed(lambda: tasks_at_a_time(tasks, device, one_task))
        return state

    def _resumed(self) -> State | None:
        """From the first process's checkpoint: other machines have none, or an older one."""
        saved = self.ranks.agreed(lambda: checkpoint.read(self.checkpoint, self.fingerprint))
        return saved and checkpoint.restored(saved, self.learner.device, self._fresh, self._optimiser)

    def _optimiser(self, params: Params) -> torch.optim.Optimizer:
        # by name: a checkpoint's moments are numbered, and it gives the weights back in an order of its own
        leaves = [weight.requires_grad_() for _, weight in sorted(params.weights.items())]
        return self.learner.method.optimiser(leaves)

    def _progress(self, state: State) -> float:
        """Share of the budget that is spent: of steps, and of seconds where they are limited."""
        share = state.step / self.learner.method.settings.steps
        if self.settings.max_seconds is not None:
            share = max(share, state.seconds / self.settings.max_seconds)
        return min(share, 1.0)

    def _done(self, state: State) -> bool:
        if self._progress(state) >= 1 and state.history and state.history[-1]["step"] == state.step:
            return True
        if not state.history:
            return False
        since = [record["step"] for record in state.history].index(state.best_record["step"])
        return len(state.history) - 1 - since >= self.settings.patience

    @property
    def _look_every(self) -> int:
        return 1 if self.learner.device.type == "cpu" else LOOK_EVERY

    def _way_to_work(self) -> Callable[[State], Tensor]:
        if self.learner.device.type != "cuda" or self.settings.graph is False:
            return self._work
        if why := self._why_no_graph():
            say(f"{self.learner.name}: no CUDA graph ({why}): kernels are launched one by one")
            return self._work
        return GraphedWork(self._work, self.learner.name)

    def _why_no_graph(self) -> str:
        """Empty where a step can be one."""
        reasons = {
            "the examples are on the host": self.examples.device != self.learner.device,
            "several processes share a step": self.ranks.count > 1,
            "the loss is compiled": self._loss != self.learner.method.loss,
            "the loss changes as training goes on": self.learner.method.anneals,
        }
        return next((why for why, holds in reasons.items() if holds), "")

    def _step(self, state: State, work: Callable[[State], Tensor]) -> Tensor:
        rate = self.learner.method.settings.learning_rate * self._schedule(state)
        for group in state.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):  # a graph reads it where it is
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        figures = work(state)
        state.step += 1
        return figures

    def _work(self, state: State) -> Tensor:
        """All that a step does on the device; its loss and the norm of its gradient, which nobody has looked at."""
        total = self._gradients(state)
        norm = gradient_norm(state.params)
        state.optimiser.step()
        return torch.stack([total, norm])

    def _refuse(self, step: int, loss: float, norm: float) -> NoReturn:
        raise MetaloomError(
            f"{self.learner.name}: the loss is {loss} and its gradient's norm {norm} at step {step}; {self._remedy()}"
        )

    def _remedy(self) -> str:
        return f"lower {self.learner.name}.learning_rate. The last good checkpoint is {self.checkpoint}"

    def _gradients(self, state: State) -> Tensor:
        """Leave the meta-gradients at the weights and move the statistics on; returns the loss. All are means
        over the tasks of all processes."""
        method, episodes = self.learner.method, self.draw(state.generator)
        dropout = None
        if method.network.dropout:
            dropout = self.ranks.own(state.generator, self.learner.device, self.seed, state.step)
        state.optimiser.zero_grad()
        total, statistics = torch.zeros((), device=self.learner.device), {}
        for chunk in method.chunks(episodes, state.tasks_at_a_time):
            share = len(chunk) / len(episodes)
            with precision_of(self.settings):
                loss, moved = self._loss(state.params, chunk, dropout, self._progress(state))
                (loss * share).backward()
            total += loss.detach() * share
            statistics = {k: statistics.get(k, 0) + v * share for k, v in moved.statistics.items()}
        leaves = list(state.params.weights.values())
        total, *means = self.ranks.average(leaves, [total, *statistics.values()])
        state.params = replace(state.params, statistics=dict(zip(statistics, means, strict=True)))
        return total

    @cached_property
    def _loss(self) -> Loss:
        return loss_of(self.learner.name, self.learner.method, self.settings, self.learner.device)

    def _schedule(self, state: State) -> float:
        warm = min((state.step + 1) / WARM_UP, 1.0)
        return warm * 0.5 * (1 + math.cos(math.pi * self._progress(state)))

    def draw(self, generator: torch.Generator | None) -> Episodes:
        """This process's share of one meta-batch of training episodes, on the device."""
        method, shots, kind = self.learner.method.settings, self.settings.n_shot, self.learner.encoding.kind
        drawn = self.sampler.sample(method.tasks_per_step, method.n_way, self.settings.examples, generator)
        if self.settings.distortion:
            drawn += (torch.rand(*drawn[0].shape, kind.chances, generator=generator, device=drawn[0].device),)
        rows, *shared = self.ranks.share(*drawn)
        examples = picked(self.examples, rows, self.learner.device)
        views, classes, *chances = (each.to(self.learner.device) for each in shared)
        if kind.views > 1:
            examples = kind.seen(examples, views)
        x = self.learner.encoding(examples)
        if chances:
            x = kind.distorted(x, chances[0], self.settings.distortion)
        way, domains = torch.arange(method.n_way, device=x.device), self.sampler.domains
        return Episodes(
            support_x=x[:, :, :shots].flatten(1, 2),
            support_y=way.repeat_interleave(shots),
            query_x=x[:, :, shots:].flatten(1, 2),
            query_y=way.repeat_interleave(self.settings.n_query),
            n_way=method.n_way,
            classes=classes,
            domains=None if domains is None else domains.to(x.device),
        )

    def _validate(self, state: State, loss: float) -> None:
        learner = replace(self.learner, params=state.params)
        scores = self.ranks.agreed(lambda: accuracy_and_nll(learner, self.examples, self.validation))
        record = {"step": state.step, "loss": loss, **scores}
        if not math.isfinite(record["nll"]):
            raise MetaloomError(
                f"{self.learner.name}: the NLL on the validation episodes is {record['nll']} at step {state.step}; "
                f"{self._remedy()}"
            )
        if not state.history or record["accuracy"] > state.best_record["accuracy"]:
            state.best = state.params.kept().detached()
        state.history.append(record)
        self.on_validation(record)


def gradient_norm(params: Params) -> Tensor:
    """Euclidean norm of all gradients together."""
    gradients = [weight.grad for weight in params.weights.values() if weight.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
