"""The steps of `gpu.py`: each is a function of the bench that returns its figures."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products; read when CUDA starts

import torch
import torch.nn.functional as F
from gpu_work import Work, example, gradients, moved
from torch import Tensor

from metaloom.networks.layers import in_bfloat16
from metaloom.training.trainer import Trainer

Figures = dict[str, Any]
PRECISIONS = ("float32", "tf32", "bf16")
TOLERANCE = 1e-3  # of the gradient in float32, as one vector, against float64
WARM, TIMED = 5, 15  # steps


class Killed(BaseException):
    """Ends a run as a signal would."""


@dataclass(frozen=True)
class Bench:
    """Where and on what the steps run."""

    device: torch.device
    small: bool
    omniglot: Path | None

    def trainer(self, name: str, overrides: Figures, folder: Path | str = "", **changes: Any) -> Trainer:
        """One method over the noise."""
        return Work.noise(overrides, self.small).trainer(name, self.device, Path(folder), **changes)

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

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


@contextmanager
def precision(name: str) -> Iterator[None]:
    """float32 is IEEE's here; torch itself lets convolutions use TF32 unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    try:
        with in_bfloat16() if name == "bf16" else nullcontext():
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


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
            with precision(mode if mode == "tf32" else "float32"):
                taken = bench.seconds(partial(F.conv2d, x, w, padding=1))
            name = f"{mode} {channels}{' last' * (layout == torch.channels_last)} TFLOP/s"
            found[name] = 2 * 9 * channels * x.numel() / taken / 1e12
    return found


def parity(bench: Bench, name: str, overrides: Figures) -> Figures:
    """Loss and gradient against float64 on the CPU, relative; one meta-batch in parts, as training takes it."""
    here = replace(bench, device=torch.device("cpu"))
    trainer = here.trainer(name, overrides)
    method, (params, episodes) = trainer.learner.method, example(trainer)
    loss, gradient = gradients(method, params.double(), moved(episodes, dtype=torch.float64))
    found: Figures = {}
    for mode in PRECISIONS:
        with precision(mode):
            own, theirs = gradients(method, params.to(bench.device), moved(episodes, device=bench.device))
        found[f"loss {mode}"] = abs(own - loss) / abs(loss)
        found[f"gradient {mode}"] = float((theirs - gradient).norm() / gradient.norm())
    return found | {"ok": max(found["loss float32"], found["gradient float32"]) < TOLERANCE}


def host(bench: Bench, name: str, overrides: Figures) -> Figures:
    """A short run whose images stay on the host, as where they would fill the device."""
    with tempfile.TemporaryDirectory() as folder:
        work = Work.noise({f"{name}.steps": 6, "train.validate_every": 3} | overrides, bench.small)
        trainer = work.trainer(name, bench.device, Path(folder), on_host=True)
        run = work.bank(trainer, Path(folder)) if name == "bank" else trainer
        return {"accuracy": run.run().best_record["accuracy"]}


def repeated(bench: Bench, name: str, deterministic: bool) -> Figures:
    """Whether a run gives the same bits again, and after it was killed and went on from its checkpoint; if not, how far
    the weights are apart."""

    def weights(on_step: Callable[[int, float], None] = lambda step, loss: None) -> Tensor:
        trainer = bench.trainer(name, {f"{name}.steps": 14, "train.validate_every": 4}, folder, on_step=on_step)
        learned = sorted(trainer.run().params.weights.items())  # a checkpoint has an order of its own
        return torch.cat([weight.detach().flatten() for _, weight in learned])

    def kill(step: int, loss: float) -> None:
        if step == 7:
            raise Killed

    torch.use_deterministic_algorithms(deterministic)
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = weights()
        with tempfile.TemporaryDirectory() as folder:
            again = weights()
        with tempfile.TemporaryDirectory() as folder:
            try:
                weights(kill)
            except Killed:
                resumed = weights()
    finally:
        torch.use_deterministic_algorithms(False)
    far = {"again": float((again - whole).abs().max()), "resumed": float((resumed - whole).abs().max())}
    return {f"{key} bits": torch.equal(own, whole) for key, own in (("again", again), ("resumed", resumed))} | far


def steps(bench: Bench, name: str, overrides: Figures, mode: str = "tf32", counted: bool = False) -> Figures:
    """Whole training steps: their rate, and on request host syncs, kernels and the share of time that they run."""
    warm, timed = (1, 2) if bench.small else (WARM, TIMED)
    marks: dict[int, float] = {}
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
    caught: list[Any] = []

    def on_step(step: int, loss: float) -> None:
        marks[step] = time.perf_counter()  # the loss is here, so the device has done all but the optimiser's part
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
    run["train.precision"] = "bf16" if mode == "bf16" else "float32"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as seen, precision(mode):
        warnings.simplefilter("always")
        trainer = bench.trainer(name, run | overrides, folder, on_step=on_step)
        trainer.run()
    taken = (marks[warm + timed] - marks[warm]) / timed
    own = trainer.learner.method.settings
    images = own.tasks_per_step * own.n_way * trainer.settings.examples
    found = {"ms": taken * 1e3, "tasks/s": own.tasks_per_step / taken, "images/s": images / taken}
    return found | (_counts(profiler, caught, taken) if counted else {})


def _counts(profiler: torch.profiler.profile, caught: list[Any], step: float) -> Figures:
    """Of five steps under the profiler, and of one in which torch warned of every sync."""
    syncs = sum("synchronizing CUDA operation" in str(each.message) for each in caught)
    on_device = [each for each in profiler.events() or [] if each.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(each.device_time for each in on_device) / 5 / 1e6
    return {"syncs": syncs, "kernels": len(on_device) / 5, "kernel ms": busy * 1e3, "busy": busy / step}


def at_once(bench: Bench, name: str, overrides: Figures, mode: str = "tf32") -> Figures:
    """Loss and backward alone, with all tasks of a step in one part."""
    trainer = bench.trainer(name, overrides)
    params, episodes = example(trainer)
    leaves = {key: weight.detach().requires_grad_() for key, weight in params.weights.items()}
    with precision(mode):
        taken = bench.seconds(
            lambda: trainer.learner.method.loss(replace(params, weights=leaves), episodes)[0].backward()
        )
    return {"ms": taken * 1e3, "tasks/s": len(episodes) / taken}


def omniglot(bench: Bench, seconds: float) -> Figures:
    """The recipe `quarter` of omniglot.py with so many seconds of training, then the test episodes."""
    from omniglot import COMMON, RECIPES

    assert bench.omniglot is not None
    started = time.perf_counter()
    work = _read(bench.omniglot, tuple((COMMON | RECIPES["quarter"]).items()))
    train = work.settings.train.model_copy(update={"max_seconds": float(seconds)})
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


def replayed(bench: Bench, name: str, overrides: Figures, mode: str = "tf32") -> Figures:
    """Loss and backward of all tasks at once as a CUDA graph: the time without launching kernels one by one."""
    trainer = bench.trainer(name, overrides)
    params, episodes = example(trainer)
    leaves = {key: weight.detach().requires_grad_() for key, weight in params.weights.items()}

    def once() -> None:
        trainer.learner.method.loss(replace(params, weights=leaves), episodes)[0].backward()

    graph, beside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with precision(mode):
        with torch.cuda.stream(beside):  # a capture must not be the first call
            for _ in range(3):
                once()
        torch.cuda.current_stream().wait_stream(beside)
        with torch.cuda.graph(graph):
            once()
    taken = bench.seconds(graph.replay)
    return {"ms": taken * 1e3, "tasks/s": len(episodes) / taken}
