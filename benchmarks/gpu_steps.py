"""The steps of `gpu.py`: each is a function of the bench that returns its figures."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products; read when CUDA starts

import contenders
import torch
import torch.nn.functional as F
from gpu_work import Work, example, gradients, moved
from torch import Tensor

from metaloom.system.device import finish, tf32
from metaloom.training.acceleration import precision_of
from metaloom.training.graph import EAGER
from metaloom.training.trainer import Trainer

Figures = dict[str, Any]
PRECISIONS = ("float32", "tf32", "bf16")
TOLERANCE = 1e-3  # of the gradient in float32, as one vector, against float64
MANY = 32  # tasks
RANK_WORK = {"protonet.steps": 10, "train.validate_every": 4}
DRAWS = 3  # meta-batches that it is compared on
WARM, TIMED = EAGER + 2, 20  # steps


class Killed(BaseException):
    """Ends a run as a signal would."""


@dataclass(frozen=True)
class Bench:
    """Where and on what the steps run."""

    device: torch.device
    small: bool
    omniglot: Path | None
    everything: bool = False

    def trainer(self, name: str, overrides: Figures, folder: Path | str = "", **changes: Any) -> Trainer:
        """One method over the noise."""
        return Work.noise(overrides, self.small).trainer(name, self.device, Path(folder), **changes)

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        finish(self.device)

    def seconds(self, call: Callable[[], object], rounds: int = 10) -> float:
        """The median time of a call, after three to warm up."""
        taken = []
        for turn in range(3 + rounds):
            self.wait()
            started = time.perf_counter()
            call()
            self.wait()
            taken += [time.perf_counter() - started] * (turn >= 3)
        return statistics.median(taken)


def ceilings(bench: Bench) -> Figures:
    """Bytes read and written by a copy, and a 3×3 convolution with many channels and with conv4's."""
    size, examples, wide = (2**24, 4, 32) if bench.small else (2**32, 512, 256)
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    found = {"copy GB/s": 2 * size / bench.seconds(lambda: target.copy_(source)) / 1e9}
    for channels, mode in ((c, m) for c in (wide, 64) for m in PRECISIONS):
        dtype = torch.bfloat16 if mode == "bf16" else torch.float32
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(examples, channels, 28, 28, device=bench.device).to(dtype, memory_format=layout)
            w = torch.randn(channels, channels, 3, 3, device=bench.device).to(dtype, memory_format=layout)
            with tf32(mode == "tf32"):
                taken = bench.seconds(partial(F.conv2d, x, w, padding=1))
            name = f"{mode} {channels}{' last' * (layout == torch.channels_last)} TFLOP/s"
            found[name] = 2 * 9 * channels * x.numel() / taken / 1e12
    return found


def parity(bench: Bench, name: str, overrides: Figures) -> Figures:
    """Loss and gradient against float64 on the CPU, relative: medians over a few meta-batches, in parts as a CPU takes
    them. Where a number lies within rounding of a ReLU's corner or of another maximum, one batch may be far off."""
    here = replace(bench, device=torch.device("cpu"))
    trainer = here.trainer(name, overrides)
    method, (params, _) = trainer.learner.method, example(trainer)
    found: dict[str, list[float]] = {}
    for seed in range(1 if bench.small else DRAWS):
        episodes = trainer.draw(torch.Generator().manual_seed(seed))
        loss, gradient = gradients(method, params.double(), moved(episodes, dtype=torch.float64))
        for mode in PRECISIONS:
            with precision_of(trainer.settings.model_copy(update={"precision": mode})):
                own, theirs = gradients(method, params.to(bench.device), moved(episodes, device=bench.device))
            found.setdefault(f"loss {mode}", []).append(abs(own - loss) / abs(loss))
            found.setdefault(f"gradient {mode}", []).append(float((theirs - gradient).norm() / gradient.norm()))
    middle = {key: statistics.median(values) for key, values in found.items()}
    worst = {"worst gradient float32": max(found["gradient float32"])}
    return middle | worst | {"ok": max(middle["loss float32"], middle["gradient float32"]) < TOLERANCE}


def host(bench: Bench, name: str, overrides: Figures) -> Figures:
    """A short run whose images stay on the host, as where they would fill the device."""
    with tempfile.TemporaryDirectory() as folder:
        work = Work.noise({f"{name}.steps": 6, "train.validate_every": 3} | overrides, bench.small)
        trainer = work.trainer(name, bench.device, Path(folder), on_host=True)
        run = work.bank(trainer, Path(folder)) if name == "bank" else trainer
        return {"accuracy": run.run().best_record["accuracy"]}


def repeated(bench: Bench, name: str, deterministic: bool) -> Figures:
    """Whether a run gives the same bits again, after it was killed and went on from its checkpoint, without a graph;
    if not, how far the weights are apart."""
    own = {f"{name}.steps": 10, "train.validate_every": 4, "train.deterministic": deterministic}

    def weights(on_step: Callable[[int, float], None] = lambda step, loss: None, **settings: Any) -> Tensor:
        return learned(bench.trainer(name, own | settings, folder, on_step=on_step))

    def kill(step: int, loss: float) -> None:
        if step == 7:
            raise Killed

    with tempfile.TemporaryDirectory() as folder:
        whole = weights()
    with tempfile.TemporaryDirectory() as folder:
        again = weights()
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights(kill)
        except Killed:
            resumed = weights()
    with tempfile.TemporaryDirectory() as folder:
        others = {"again": again, "resumed": resumed, "no graph": weights(**{"train.graph": False})}
    far = {key: float((own - whole).abs().max()) for key, own in others.items()}
    return {f"{key} bits": torch.equal(own, whole) for key, own in others.items()} | far


def learned(trainer: Trainer) -> Tensor:
    """All weights at the end of a run; a checkpoint has an order of its own."""
    return torch.cat([weight.detach().flatten() for _, weight in sorted(trainer.run().params.weights.items())])


def not_captured(bench: Bench) -> Figures:
    """A loss that reads a value, which a graph cannot: the run goes on without one, to the same bits."""
    ends = []
    for wanted in ("auto", False):
        with tempfile.TemporaryDirectory() as folder:
            trainer = bench.trainer("protonet", {"protonet.steps": 10, "train.graph": wanted}, folder)
            method, loss = trainer.learner.method, trainer.learner.method.loss

            def reading(params: Any, *rest: Any, loss: Any = loss) -> Any:
                value, moved = loss(params, *rest)
                return value + 0 * value.item(), moved

            with patch.object(method, "loss", reading):
                ends.append(learned(trainer))
    return {"ok": torch.equal(*ends)}


def joined(bench: Bench) -> Figures:
    """A process that torchrun started, over NCCL on a GPU: whether it trains to the bits of one alone."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    work = Path(__file__).with_name("gpu_rank.py")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "weights.pt"
        paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([*command, work, bench.device.type, kept], env=paths, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        theirs = torch.load(kept)
        alone = learned(bench.trainer("protonet", RANK_WORK, folder)).cpu()
    bits = torch.equal(theirs["weights"], alone)
    return {"backend": theirs["backend"], "bits": bits, "ok": theirs["exchanged"]}


def steps(bench: Bench, name: str, overrides: Figures, counted: bool = False) -> Figures:
    """Whole training steps: their rate, and on request host syncs, kernels and the share of time that they run."""
    warm, timed = (1, 2) if bench.small else (WARM, TIMED)
    marks: dict[int, float] = {}
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
    caught: list[Any] = []

    def on_step(step: int, loss: float) -> None:
        if step in (warm, warm + timed):
            bench.wait()
            marks[step] = time.perf_counter()
        if counted and step == warm + timed:
            torch.cuda.set_sync_debug_mode("warn")
        if counted and step == warm + timed + 1:
            torch.cuda.set_sync_debug_mode("default")
            caught.extend(seen)
            profiler.start()
        if counted and step == warm + timed + 6:
            bench.wait()
            profiler.stop()

    run = {f"{name}.steps": warm + timed + 6 * counted, "train.validate_every": 10_000}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainer = bench.trainer(name, run | overrides, folder, on_step=on_step)
        state = trainer.run()
    taken = (marks[warm + timed] - marks[warm]) / timed
    tasks = trainer.learner.method.settings.tasks_per_step
    found = {"ms": taken * 1e3, "tasks/s": tasks / taken, "images/s": images_in(trainer) / taken}
    found |= {"tasks at a time": state.tasks_at_a_time}
    return found | (_counts(profiler, caught, taken) if counted else {})


def _counts(profiler: torch.profiler.profile, caught: list[Any], step: float) -> Figures:
    """Of five steps under the profiler, and of one in which torch warned of every sync."""
    syncs = sum("synchronizing CUDA operation" in str(each.message) for each in caught)
    on_device = [each for each in profiler.events() or [] if each.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(each.device_time for each in on_device) / 5 / 1e6
    return {"syncs": syncs, "kernels": len(on_device) / 5, "kernel ms": busy * 1e3, "busy": busy / step}


def beside_peers(bench: Bench, work: contenders.Work, mode: str) -> Figures:
    """Tasks a second of loss and gradient, of us and of the peers that are installed, in turns."""
    rounds = 6 if work.tasks < MANY else 1  # many tasks take the peers seconds
    with tf32(mode == "tf32"):
        rates, absent = contenders.rates(work, 1 if bench.small else rounds)
    found = {f"{name} tasks/s": statistics.median(values) for name, values in rates.items()}
    found["× the fastest"] = found[f"{contenders.OURS} tasks/s"] / contenders.fastest(rates)
    return found | {name: f"left out, {why}" for name, why in absent.items()}


def images_in(trainer: Trainer) -> int:
    own = trainer.learner.method.settings
    return own.tasks_per_step * own.n_way * trainer.settings.examples


def omniglot(bench: Bench, seconds: float) -> Figures:
    """The recipe `quarter` of omniglot.py in TF32 with so many seconds of training, then the test episodes."""
    from omniglot import COMMON, RECIPES

    assert bench.omniglot is not None
    started = time.perf_counter()
    work = _read(bench.omniglot, tuple((COMMON | RECIPES["quarter"]).items()))
    train = work.settings.train.model_copy(update={"max_seconds": float(seconds), "precision": "tf32"})
    work = replace(work, settings=work.settings.model_copy(update={"train": train}))
    read = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        trainer = work.trainer("protonet", bench.device, Path(folder))
        state = trainer.run()
    learner = replace(trainer.learner, params=state.best)
    found = {"reading s": read, "training s": state.seconds, "steps": state.step}
    for setting in ("5w1s", "5w5s", "20w1s", "20w5s"):
        table = work.episodes("test", setting)
        right = learner.answer(trainer.examples, table).argmax(dim=2).cpu() == torch.as_tensor(table.answers)
        found |= {setting: float(right.double().mean())}
    return found


@cache
def _read(folder: Path, recipe: tuple[tuple[str, str], ...]) -> Work:
    return Work.omniglot(folder, dict(recipe))
