"""The hand-off: graphs beside torch, in turns in the same run; `verify` and `predict` from a cold start; how many tasks
a minute a fleet makes; what smaller forms cost.

python benchmarks/handoff.py [ROOT] [--tasks N]: ROOT is a clone where `metaloom run` has been; without it a fresh clone
is made and run first (7 minutes)
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnxruntime
import pandas as pd
import torch
import yaml
from measure import Measured, fresh_clone, machine, measure
from PIL import Image

from metaloom.config import Settings, load_settings
from metaloom.handoff.graphs.learning import learning_graphs
from metaloom.handoff.graphs.novelty import Novelty, novelty_of
from metaloom.handoff.graphs.session import session_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.kinds.pictures.encode import PictureEncoding
from metaloom.learner import Learner

SECONDS, TURN, REST, WARM = 8.0, 0.3, 0.05, 5  # for each comparison, of a turn, before it; calls that do not count
WAYS, SHOTS, QUERIES = 5, 5, 5  # of a task; queries of all classes together
MANY = 5  # times as many tasks: the start is spread over them
COLD = 7  # starts of a command
LEARNERS = {  # name of a row: method, its settings
    "protonet": ("protonet", {}),
    "ridge": ("ridge", {}),
    "maml, 1 inner step": ("maml", {"inner_steps": 1}),
    "maml, 2 inner steps": ("maml", {"inner_steps": 2}),
    "maml, 5 inner steps": ("maml", {"inner_steps": 5}),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", nargs="?")
    parser.add_argument("--tasks", type=int, default=1000)
    options = parser.parse_args()
    print(machine(), f"onnxruntime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(options.root).resolve() if options.root else fresh_clone(folder)
        if not options.root:
            measure(root, "metaloom", "run")
        os.chdir(root)
        images = np.load("artifacts/dataset/examples.npy", mmap_mode="r")
        beside_torch(np.ascontiguousarray(images[:400]))
        commands(root, Path(folder), images, options.tasks)


def beside_torch(images: np.ndarray) -> None:
    """Random weights: they cost no other time than learned ones.

    The graphs give `novelty` too. Where a task moves the network, that takes the support set's embeddings after it, so
    torch makes them as well; elsewhere the embeddings that were learned from serve, and torch is asked for
    probabilities alone.
    """
    settings = load_settings()
    rng = np.random.default_rng(0)
    support = images[rng.choice(len(images), WAYS * SHOTS, replace=False)]
    query, labels = images[rng.choice(len(images), QUERIES, replace=False)], np.arange(WAYS).repeat(SHOTS)
    print("\nmedian ms of onnxruntime, of torch with metaloom's kernels, of torch with its own layers")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for row, (name, changes) in LEARNERS.items():
            learner = fresh(name, changes, settings, images)
            task = learner.adapt(support, labels)
            if name == "protonet":
                graph = to_onnx(task, novelty_of(task, support, labels), settings.export, {})
                asked = session_of(graph, threads)
                one = query[:1]
                report("model.onnx, 1 picture", threads, lambda s=asked, x=one: s.run(None, {"examples": x}),
                       lambda t=task, x=one: t.predict_proba(x))  # fmt: skip
            graph = learning_graphs(learner, settings.export, {})["adapt.onnx"]
            inputs = {"support_x": support, "support_y": labels, "query_x": query}
            asked = session_of(graph, threads)
            report(f"adapt.onnx, {row}", threads, lambda s=asked, i=inputs: s.run(None, i),
                   lambda w=learner: answered(w, support, labels, query))  # fmt: skip


def answered(learner: Learner, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> None:
    task = learner.adapt(support, labels)
    task.predict_proba(query)
    if not learner.method.frozen:
        with torch.no_grad():
            x = task.encoding(torch.as_tensor(support))
            z, _ = task.model.network(task.model.weights, x, task.model.statistics)
            Novelty.of(z, torch.as_tensor(labels), WAYS)


def fresh(name: str, changes: dict, settings: Settings, images: np.ndarray) -> Learner:
    own = settings.method(name).model_copy(update=changes)
    return Learner.create(name, settings.model_copy(update={name: own}), PictureEncoding.of(images))


def report(row: str, threads: int, graph: Callable[[], object], ours: Callable[[], object]) -> None:
    def plain() -> object:
        with patch("metaloom.networks.conv4.on_cpu", lambda x: False):
            return ours()

    medians = in_turns([graph, ours, plain])
    ratios = ", ".join(f"{each / medians[0]:.2f}" for each in medians[1:])
    print(f"{row:34} {threads} thread(s)  " + "  ".join(f"{each:7.2f}" for each in medians) + f"   ratios {ratios}")


def in_turns(asked: list[Callable[[], object]]) -> list[float]:
    """Milliseconds a call; the turns are short, so that what else the machine does hits all alike. Before each the
    other's threads, which go on for a while looking for work, are left to fall asleep."""
    taken: list[list[float]] = [[] for _ in asked]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(taken[-1]) < 2 * WARM:
        for ask, times in zip(asked, taken, strict=True):
            time.sleep(REST)
            turn = time.perf_counter()
            while (start := time.perf_counter()) < turn + TURN:
                ask()
                times.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(times[WARM:]) for times in taken]


def commands(root: Path, folder: Path, images: np.ndarray, tasks: int) -> None:
    bundle, picture = root / "artifacts/bundle", folder / "picture.png"
    Image.fromarray(images[0, :, :, 0]).save(picture)
    print(f"\ncold starts, median of {COLD}")
    for command in (["verify", str(bundle)], ["predict", str(bundle), str(picture)]):
        taken = [measure(root, "metaloom", *command).seconds for _ in range(COLD)]
        print(f"metaloom {command[0]:8} {statistics.median(taken):5.2f} s ({min(taken):.2f} to {max(taken):.2f})")
    print(f"\nfleets of {WAYS}-way {SHOTS}-shot tasks, two workers; start: the same for two tasks")
    draw_tasks(folder / "2", images, 2)
    for what, flags, sizes in (("a bundle each", [], [tasks]), ("one bundle", ["--shared"], [tasks, MANY * tasks])):
        fleet(root, folder, f"traced, {what}", 2, flags)
        start = fleet(root, folder, f"few, {what}", 2, flags).seconds
        for count in sizes:
            draw_tasks(folder / str(count), images, count)
            whole = fleet(root, folder, what, count, flags)
            rate, net = 60 * count / whole.seconds, 60 * (count - 2) / (whole.seconds - start)
            size = sum(path.stat().st_size for path in (folder / what).rglob("*") if path.is_file()) / 1e6
            print(f"{count:,} tasks, {what:14} {whole.seconds:6.1f} s: {rate:6,.0f} a minute, {net:6,.0f} after "
                  f"a start of {start:4.1f} s; {size:,.1f} MB, {whole.peak}")  # fmt: skip
    print("\nsmaller forms, calibrated on training classes, on the test episodes")
    *export, _ = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["export"]["cmd"].split()
    with patch.dict(os.environ, {"METALOOM_SET": '{"export.variants": ["fp16", "int8"]}'}):
        measure(root, *export, str(folder / "small"))
    print(re.findall(r"## Smaller.*?(?=\n## )", (folder / "small/MODEL_CARD.md").read_text(), re.DOTALL)[0])


def fleet(root: Path, folder: Path, out: str, count: int, flags: list[str]) -> Measured:
    command = ["metaloom", "--quiet", "fleet", "--workers", "2", *flags, str(folder / str(count))]
    return measure(root, *command, "--out", str(folder / out))


def draw_tasks(folder: Path, images: np.ndarray, tasks: int) -> None:
    """Tasks of classes of the test domains, as folders of pictures; once for each number of them."""
    if folder.is_dir():
        return
    classes = pd.read_parquet("artifacts/splits/classes.parquet")
    first = classes.loc[classes["split"] == "test", ["first", "count"]].to_numpy()
    rng = np.random.default_rng(0)
    for task in range(tasks):
        for way, (row, count) in enumerate(first[rng.choice(len(first), WAYS, replace=False)]):
            place = folder / f"task{task:04}" / f"class{way}"
            place.mkdir(parents=True)
            for shot, example in enumerate(rng.choice(count, SHOTS, replace=False)):
                Image.fromarray(images[row + example, :, :, 0]).save(place / f"{shot}.png")


if __name__ == "__main__":
    main()
