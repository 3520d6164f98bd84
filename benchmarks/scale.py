"""Training from a million memory-mapped images against ten thousand: time to draw, and resident memory.

python benchmarks/scale.py [STEPS]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import machine

from metaloom.config import load_settings
from metaloom.data.packed import Dataset
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner
from metaloom.system.device import keep_freed_memory
from metaloom.tasks import EpisodeTable
from metaloom.tasks.sampler import EpisodeSampler
from metaloom.training.trainer import Trainer

EACH, MIB = 20, 2**20  # images a class
SETS = {"10,000 images in 500 classes": 500, "1,000,000 images in 50,000 classes": 50_000}
WARM = 20  # steps until caches and memory pools are filled
NARROW = 16  # width of the network that memory is measured with: the images are the same, the steps quicker


@dataclass(frozen=True)
class Memory:
    """Resident memory in MiB: the process's own, and the pages of mapped files."""

    anonymous: float
    file: float

    @classmethod
    def now(cls) -> Memory:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
        kib = {name: int(size) for name, size, *_ in (line.replace(":", "").split() for line in lines)}
        return cls(kib["Anonymous"] / 1024, (kib["Rss"] - kib["Anonymous"]) / 1024)


def main(steps: str = "200") -> None:
    print(machine())
    print("ProtoNet, 60-way 1-shot with 5 queries. Draw: sampling, gathering, normalising; of a step of conv4-64.")
    print(f"Memory: over {steps} steps of conv4-{NARROW} after {WARM} to warm up, start → most.\n")
    print(f"{'':36}{'draw, ms':>10}{'of a step':>11}{'own, MiB':>20}{'mapped, MiB':>20}")
    for name, classes in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), classes * EACH)
            worker = [sys.executable, __file__, "--worker", folder, str(classes), steps]
            found = json.loads(subprocess.run(worker, check=True, stdout=subprocess.PIPE, text=True).stdout)
        own, file = (f"{found[key][0]:.0f} → {found[key][1]:.0f}" for key in ("anonymous", "file"))
        print(f"{name:36}{found['draw'] * 1e3:10.2f}{found['share']:11.2%}{own:>20}{file:>20}", flush=True)


def write_images(folder: Path, count: int) -> None:
    """Noise: its content costs nothing and changes nothing here."""
    images = np.lib.format.open_memmap(folder / "examples.npy", mode="w+", dtype=np.uint8, shape=(count, 28, 28, 1))
    block = np.random.default_rng(0).integers(0, 256, (1000, 28, 28, 1), dtype=np.uint8)
    for start in range(0, count, len(block)):
        images[start : start + len(block)] = block
    images.flush()


def worker(folder: str, classes: str, steps: str) -> None:
    """One run on one thread. Memory is that after warming up and the most of later; times are medians of CPU time."""
    keep_freed_memory()
    torch.set_num_threads(1)
    packed = Dataset(np.load(Path(folder, "examples.npy"), mmap_mode="c"), pd.DataFrame(), {})
    memory: list[Memory] = []

    def on_step(step: int, loss: float) -> None:
        if step >= WARM:
            memory.append(Memory.now())  # before pages are given back: at their most
        packed.let_go()

    trainer_of(packed, int(classes), int(steps) + WARM, Path(folder), on_step, width=NARROW).run()
    spans = {key: (getattr(memory[0], key), max(getattr(m, key) for m in memory[1:])) for key in ("anonymous", "file")}
    ends: list[float] = []
    trainer = trainer_of(packed, int(classes), 8, Path(folder), lambda step, loss: ends.append(time.process_time()))
    trainer.run()
    draw = draw_seconds(trainer, packed)
    print(json.dumps({"draw": draw, "share": draw / float(np.median(np.diff(ends))), **spans}))


def draw_seconds(trainer: Trainer, packed: Dataset) -> float:
    """With reading the pages of the images again, and giving them back."""
    generator, times = torch.Generator().manual_seed(1), []
    for _ in range(100):
        started = time.process_time()
        trainer.draw(generator)
        packed.let_go()
        times.append(time.process_time() - started)
    return float(np.median(times))


def trainer_of(packed: Dataset, classes: int, steps: int, folder: Path, on_step, width: int = 64) -> Trainer:
    overrides = {"protonet.steps": steps, "network.width": width}
    settings = load_settings(Path(__file__).parents[1] / "params.yaml", overrides)
    table = pd.DataFrame({"first": np.arange(classes) * EACH, "count": EACH})
    rows = np.arange(100 * EACH).reshape(20, 5, EACH)  # 20 validation episodes
    examples = settings.train.n_shot + settings.train.n_query
    trainer = Trainer(
        learner=Learner.create("protonet", settings, PictureEncoding.of(packed.examples[:1000])),
        examples=torch.from_numpy(packed.examples),
        sampler=EpisodeSampler.of(table, examples, 1, torch.device("cpu")),
        validation=EpisodeTable(rows[:, :, :1], rows[:, :, 1:6]),
        settings=settings.train.model_copy(update={"patience": 1000}),
        seed=0,
        checkpoint=folder / "checkpoint.safetensors",
        fingerprint=str(width),
        code="",
    )
    return replace(trainer, on_step=on_step)


if __name__ == "__main__":
    worker(*sys.argv[2:]) if sys.argv[1:2] == ["--worker"] else main(*sys.argv[1:])
