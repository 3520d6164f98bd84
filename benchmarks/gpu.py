"""The engine on a GPU, proved and measured in one command without a network: about four minutes.

python benchmarks/gpu.py [--device cpu] [--omniglot FOLDER_WITH_THE_TWO_ARCHIVES] [--out FILE] [--only WORD]

It runs on the torch that it finds. Every step is fenced: what fails costs only itself (but for an error that ends the
CUDA context). A step prints one line of JSON as it ends, and adds it to FILE; a table comes last. Without a GPU the
steps run small, and those that need one are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_steps import PRECISIONS, Bench, Figures, at_once, ceilings, host, omniglot, parity, repeated, replayed, steps

from metaloom.config import METHODS

SECOND_ORDER = {"maml.inner_rate": 0.1, "maml.first_order": False}
MAML = [(f"maml, k={inner}, {tasks} tasks", inner, tasks) for inner in (1, 5) for tasks in (4, 32)]  # inner steps


def plan(bench: Bench) -> Iterator[tuple[str, Callable[[], Figures] | str]]:
    """The name of every step, and the step, or why it is left out."""
    yield "ceilings", partial(ceilings, bench)
    inner = {f"maml, {k} inner steps": SECOND_ORDER | {"maml.inner_steps": k} for k in (2, 5)}
    variants = {name: {} for name in METHODS} | inner | {"shared, heads by domain": {"shared.heads": "domain"}}
    for title, own in variants.items():
        yield f"parity: {title}", partial(parity, bench, title.split(",")[0], own)
    for title, own in variants.items():
        run: Any = partial(host, bench, title.split(",")[0], own)
        yield f"images on the host: {title}", run if bench.device.type == "cuda" else "there is one memory"
    for name in METHODS:
        for deterministic in (False, True):
            title = f"bits{', deterministic' * deterministic}: {name}"
            yield title, partial(repeated, bench, name, deterministic)
    for name in METHODS:
        run = partial(steps, bench, name, {}, counted=True)
        yield f"step: {name}", run if bench.device.type == "cuda" else "it counts kernels"
    yield from _rates(bench)
    yield from _alone(bench)
    for seconds in (10, 20):
        run = partial(omniglot, bench, seconds)
        yield f"Omniglot, {seconds} s", run if bench.omniglot else "needs --omniglot"


def _rates(bench: Bench) -> Iterator[tuple[str, Callable[[], Figures]]]:
    for mode in PRECISIONS:
        yield f"rate: protonet, {mode}", partial(steps, bench, "protonet", {}, mode)
        for title, inner, tasks in MAML:
            own = SECOND_ORDER | {"maml.inner_steps": inner, "maml.tasks_per_step": tasks}
            counted = bench.device.type == "cuda" and mode == "tf32"
            yield f"rate: {title}, {mode}", partial(steps, bench, "maml", own, mode, counted)


def _alone(bench: Bench) -> Iterator[tuple[str, Callable[[], Figures] | str]]:
    ways = {
        name: SECOND_ORDER | {"maml.inner_steps": k, "maml.tasks_per_step": n} for name, k, n in MAML if n > 4 or k > 1
    }
    for title, own in {"protonet": {}, **ways}.items():
        name = title.split(",")[0]
        yield f"loss and backward alone, at once: {title}", partial(at_once, bench, name, own)
        run: Any = partial(replayed, bench, name, own)
        yield f"the same as a CUDA graph: {title}", run if bench.device.type == "cuda" else "it needs CUDA"


def fenced(name: str, step: Callable[[], Figures] | str) -> Figures:
    """The step's figures and seconds; of one that failed, its error."""
    if isinstance(step, str):
        return {"step": name, "left out": step}
    started = time.perf_counter()
    try:
        found = step()
    except Exception as error:  # the fence: whatever a step raises is its own line in the table
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = {
            "ok": False,
            "error": " ".join(f"{type(error).__name__}: {error}".split())[:600],
            "at": f"{last.filename}:{last.lineno}",
        }
    return {"step": name, "ok": True} | found | {"seconds": round(time.perf_counter() - started, 1)}


def line(done: Figures) -> str:
    """A row of the table."""
    rest = {key: value for key, value in done.items() if key not in ("step", "ok", "seconds", "at")}
    shown = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rest.items()]
    verdict = "left out" if "left out" in done else ("ok" if done["ok"] else "FAILED")
    return f"| {done['step']} | {verdict} | {', '.join(shown)} | {done.get('seconds', '')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--omniglot", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--only", default="", metavar="WORD", help="the steps whose name has it")
    options = parser.parse_args()
    device = torch.device(options.device)
    card = torch.cuda.get_device_name() if device.type == "cuda" else "small, on a CPU"
    print(f"{card}, torch {torch.__version__}", flush=True)
    rows = []
    for name, step in plan(Bench(device, device.type == "cpu", options.omniglot)):
        if options.only not in name:
            continue
        done = fenced(name, step)
        rows.append(done)
        text = json.dumps(
            {key: str(v) if isinstance(v, float) and not math.isfinite(v) else v for key, v in done.items()}
        )
        print(text, flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(f"{text}\n")
    print("\n| step | | figures | s |\n|---|---|---|---|\n" + "\n".join(map(line, rows)))


if __name__ == "__main__":
    main()
