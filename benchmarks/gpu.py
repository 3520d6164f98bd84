"""The engine on a GPU, proved and measured in one command without a network.

About five minutes with the peers installed and Omniglot, and never more: what matters most comes first, and a step that
would begin later is left out (`--seconds`). `--all` adds further precisions and forms.

python benchmarks/gpu.py [--device cpu] [--omniglot FOLDER_WITH_THE_TWO_ARCHIVES] [--out FILE] [--wheels FOLDER]
                         [--seconds 300] [--only WORD …] [--all] [--count]

It needs torch for CUDA, numpy, pandas and pyarrow, and runs on the Python and torch that it finds. Of what else
metaloom imports it takes what is here or in the folder of wheels (pydantic, safetensors and pyyaml at least, pillow for
Omniglot, the peers if you like), and stubs for the rest; metaloom itself need not be installed.

Every step is fenced: what fails, or takes longer than it may, costs only itself (but for an error that ends the CUDA
context). On a GPU those that take no times run in processes of their own, eight at once. A step prints one line of JSON
as it ends, and adds it to FILE; a table comes last. Without a GPU the steps run small, and those that need one are left
out.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bare  # noqa: F401 (first: it makes the path for what follows)
import torch
from contenders import works
from gpu_alone import FORMS, alone, count
from gpu_steps import (
    MANY,
    PRECISIONS,
    Bench,
    Figures,
    beside_peers,
    ceilings,
    host,
    joined,
    not_captured,
    omniglot,
    parity,
    repeated,
    steps,
)

from metaloom.config import METHODS
from metaloom.system.device import choose_device

UNTIMED = "parity: ", "images on the host: ", "bits"  # how the names of such steps begin
AT_ONCE = 8
SECONDS = 300  # of the whole
LONGEST = 90  # seconds of a step
FIRST = (  # how the names of steps begin, the most telling ones first; all others come after them
    *UNTIMED,
    "rate: protonet, tf32",
    "rate: maml, k=5, 4 tasks, tf32",
    "rate: maml, k=5, 32 tasks, tf32",
    "peers: ProtoNet",
    "peers: MAML second order, k=5",
    "Omniglot",
    "step: ",
    "torchrun",
    "a graph that cannot be captured",
)
PEERS = ("higher", "torchopt", "learn2learn", "easyfsl")
SECOND_ORDER = {"maml.n_way": 5, "maml.inner_rate": 0.1, "maml.first_order": False, "maml.head": "zero"}
SECOND_ORDER |= {"maml.take_turns": False}
EAGER_TOO = "protonet", "maml, k=5, 4 tasks"
STEADY = {"reptile.inner_steps": 2, "reptile.inner_rate": 0.01}  # ten large steps on noise multiply what is rounded


def plan(bench: Bench) -> Iterator[tuple[str, Callable[[], Figures] | str]]:
    """The name of every step, and the step, or why it is left out."""
    yield "ceilings", partial(ceilings, bench)
    inner = {f"maml, {k} inner steps": SECOND_ORDER | {"maml.inner_steps": k} for k in (2, 5)}
    variants = {name: {} for name in METHODS} | inner | {"shared, heads by domain": {"shared.heads": "domain"}}
    networks = {f"protonet, {name}": {"network.name": name, "network.width": 16} for name in ("resnet12", "mlp", "gru")}
    batch = {"maml, 2 inner steps, batch norm": inner["maml, 2 inner steps"] | {"maml.norm": "batch"}}
    for title, own in (variants | networks | batch).items():
        steady = STEADY if title == "reptile" else {}
        yield f"parity: {title}", partial(parity, bench, title.split(",")[0], own | steady)
    for title, own in variants.items():
        run: Any = partial(host, bench, title.split(",")[0], own)
        yield f"images on the host: {title}", run if bench.device.type == "cuda" else "there is one memory"
    for name in METHODS:
        for deterministic in (False, True):
            title = f"bits{', deterministic' * deterministic}: {name}"
            yield title, partial(repeated, bench, name, deterministic)
    yield "a graph that cannot be captured", partial(not_captured, bench)
    yield "torchrun with one process", partial(joined, bench)
    for name in METHODS:
        run = partial(steps, bench, name, {"train.precision": "tf32"}, counted=True)
        yield f"step: {name}", run if bench.device.type == "cuda" else "it counts kernels"
    yield from _rates(bench)
    yield from _alone(bench)
    yield from _beside_peers(bench)
    for seconds in (10, 20):
        run = partial(omniglot, bench, seconds)
        yield f"Omniglot, {seconds} s", run if bench.omniglot else "needs --omniglot"


def _work() -> dict[str, tuple[str, Figures]]:
    """Method and settings of what is timed and counted."""
    work: dict[str, tuple[str, Figures]] = {"protonet": ("protonet", {})}
    for inner, tasks in ((1, 4), (1, 32), (2, 4), (5, 4), (5, 32)):
        own = SECOND_ORDER | {"maml.inner_steps": inner, "maml.tasks_per_step": tasks}
        work[f"maml, k={inner}, {tasks} tasks"] = ("maml", own)
    return work


def _rates(bench: Bench) -> Iterator[tuple[str, Callable[[], Figures] | str]]:
    """Of whole steps with the graph, of some without it too."""
    for mode in PRECISIONS:
        for title, (name, own) in _work().items():
            both = bench.everything or bench.small or (mode == "tf32" and title in EAGER_TOO)
            for graph in (False, "auto") if both else ("auto",):
                settings = own | {"train.precision": mode, "train.graph": graph}
                counted = bench.device.type == "cuda" and mode == "tf32"
                run: Any = partial(steps, bench, name, settings, counted)
                title_of = f"rate: {title}, {mode}{', graph' * bool(graph)}"
                yield title_of, run if bench.device.type == "cuda" or not graph else "it needs CUDA"
    for deterministic in (False, True):
        run = partial(steps, bench, "protonet", {"train.precision": "tf32", "train.deterministic": deterministic})
        yield f"rate: protonet, tf32, graph, deterministic {deterministic}", run


def _alone(bench: Bench) -> Iterator[tuple[str, Callable[[], Figures] | str]]:
    """Of loss and backward; counted, of a whole step too."""
    for title, (name, own) in _work().items():
        yield f"count: {title}", partial(count, bench, name, own)
        for mode in ("float32", "tf32"):
            whole = bench.everything or mode == "tf32"
            if whole:
                yield f"alone: {title}, {mode}", partial(alone, bench, name, own, mode)
            for form in FORMS if whole else ("",):
                run: Any = partial(alone, bench, name, own, mode, graph=True, form=form)
                what = f"alone: {title}, {mode}, graph{f', {form}' * bool(form)}"
                yield what, run if bench.device.type == "cuda" else "it needs CUDA"


def _beside_peers(bench: Bench) -> Iterator[tuple[str, Callable[[], Figures] | str]]:
    """Those of the peers that are installed."""
    installed = any(find_spec(name) for name in PEERS)
    for title, work in works(bench.device.type, bench.small):
        if not bench.everything and work.tasks == MANY and work.inner_steps < 5:
            continue
        for mode in ("float32", "tf32") if bench.everything else ("tf32",):
            run: Any = partial(beside_peers, bench, work, mode)
            yield f"peers: {title}, {mode}", run if installed else f"none of {', '.join(PEERS)} is installed"


def fenced(name: str, step: Callable[[], Figures] | str, until: float = math.inf) -> Figures:
    """The step's figures and seconds; of one that failed, its error.

    Args:
        name: of the step.
        step: or why it is left out.
        until: by `time.time`, when all steps are to be done; without it a step may take as long as it does.
    """
    if isinstance(step, str):
        return {"step": name, "left out": step}
    left = until - time.time()
    if left <= 0:
        return {"step": name, "left out": "the time is up: give more --seconds"}
    started = time.perf_counter()
    try:
        with within(min(left, LONGEST)) if math.isfinite(until) else nullcontext():
            found = step()
    except Exception as error:  # the fence: whatever a step raises is its own line in the table
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = {
            "ok": False,
            "error": " ".join(f"{type(error).__name__}: {error}".split())[:600],
            "at": f"{last.filename}:{last.lineno}",
        }
    return {"step": name, "ok": True} | found | {"seconds": round(time.perf_counter() - started, 1)}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer, as soon as Python has its turn; on Windows it does not."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def end(*_: Any) -> None:
        raise TimeoutError(f"it took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def alone_in_its_process(bench: Bench, until: float, name: str) -> Figures:
    """A step by its name, in a process that may run others beside it."""
    choose_device(bench.device.type)
    return fenced(name, dict(plan(bench))[name], until)


def ranked(name: str) -> int:
    """A step's place in `FIRST`."""
    return next((place for place, words in enumerate(FIRST) if name.startswith(words)), len(FIRST))


def results(bench: Bench, wanted: Callable[[str], bool], at_once: bool, seconds: float = math.inf) -> Iterator[Figures]:
    """Of the wanted steps, as they end, the most telling ones first; on request the untimed ones several at once."""
    until = time.time() + seconds
    chosen = {name: step for name, step in sorted(plan(bench), key=lambda each: ranked(each[0])) if wanted(name)}
    apart = [name for name in chosen if name.startswith(UNTIMED)] if at_once else []
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(partial(alone_in_its_process, bench, until), apart)
    for name, step in chosen.items():
        if name not in apart:
            yield fenced(name, step, until)


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
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels of what is not installed here")
    parser.add_argument(
        "--seconds", type=float, help=f"for all steps together (default: {SECONDS}; with --all twice that)"
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="the steps whose name has one of them")
    parser.add_argument("--all", action="store_true", help="every precision and form: about twice the time")
    parser.add_argument(
        "--count", action="store_true", help="the operators of loss and backward, and of a step: no GPU needed"
    )
    options = parser.parse_args()
    device = choose_device(options.device)
    card = torch.cuda.get_device_name() if device.type == "cuda" else "small, on a CPU"
    print(f"{card}, torch {torch.__version__}", flush=True)
    words, rows = ["count: "] if options.count else options.only, []
    bench = Bench(device, device.type == "cpu", options.omniglot, options.all)
    seconds = options.seconds
    if seconds is None:
        seconds = math.inf if options.count else SECONDS * (2 if options.all else 1)
    for done in results(bench, lambda name: any(word in name for word in words), device.type == "cuda", seconds):
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
