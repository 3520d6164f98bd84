"""How fast a bundle answers, with torch beside it in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Float, Shaped

from metaloom.errors import MetaloomError
from metaloom.handoff.bundle.stranger import usable
from metaloom.handoff.graphs.session import session_of
from metaloom.handoff.metadata import Metadata, read_metadata
from metaloom.handoff.shipped.verify import ADAPT, FLEET, INPUT, INTERFACES, MODEL, SAMPLES, VARIANTS
from metaloom.system.files import sha256
from metaloom.system.parallel import cores

BATCHES = (1, 8, 64)
WARM, FEWEST = 3, 20  # calls that do not count, and the fewest that do

Answer = Callable[..., object]


@dataclass(frozen=True)
class Timed:
    """Latencies of one way to ask; milliseconds per call."""

    what: str
    runtime: str
    threads: int
    batch: int
    milliseconds: Float[np.ndarray, " call"]

    @property
    def examples_per_second(self) -> float:
        """At the mean latency."""
        return self.batch / self.milliseconds.mean() * 1e3


def measure(bundle: Path, model: Path | None, seconds: float) -> list[Timed]:
    """Ask the bundle's graphs, and torch where the meta-learner that made the bundle is at hand.

    Runtimes take turns call by call, so that what else the machine does hits all of them.

    Args:
        bundle: its folder.
        model: folder of the meta-learner, or of several; None: without torch.
        seconds: for each row of the table.

    Raises:
        MetaloomError: the bundle is damaged, or of many tasks.
    """
    if (bundle / FLEET).is_file():
        raise MetaloomError(f"{bundle} is a bundle of many tasks: bench measures bundles of one")
    opened = usable(bundle, list(INTERFACES))
    metadata = read_metadata(opened.metadata)
    support, labels, query = _sample(bundle)
    torch_answers = _torch_answers(metadata, model, support, labels)
    rows: list[Timed] = []
    for threads in sorted({1, cores()}):
        sessions = {name: session_of((bundle / name).read_bytes(), threads) for name in opened.sessions}
        for batch in BATCHES:
            questions = np.resize(query, (batch, *query.shape[1:]))
            graphs = [name for name in (MODEL, *VARIANTS) if name in sessions]
            asked = {name: _asking(sessions[name], name, questions) for name in graphs}
            asked |= {f"torch {name}": _threaded(answer, threads, questions) for name, answer in torch_answers(MODEL)}
            rows += _alternating(asked, threads, batch, seconds)
        if ADAPT in sessions:
            asked = {ADAPT: _asking(sessions[ADAPT], ADAPT, support, labels, query)}
            answers = torch_answers(ADAPT)
            asked |= {f"torch {name}": _threaded(answer, threads, support, labels, query) for name, answer in answers}
            rows += _alternating(asked, threads, len(query), seconds)
    return rows


def printed(rows: list[Timed]) -> str:
    """A table as text."""
    head = f"{'graph':<16}{'runtime':<13}{'threads':>7}{'batch':>7}{'p50 ms':>9}{'p95':>8}{'p99':>8}{'examples/s':>12}"
    lines = [head]
    for row in rows:
        p50, p95, p99 = np.percentile(row.milliseconds, (50, 95, 99))
        lines.append(
            f"{row.what:<16}{row.runtime:<13}{row.threads:>7}{row.batch:>7}{p50:>9.2f}{p95:>8.2f}{p99:>8.2f}"
            f"{row.examples_per_second:>12,.0f}"
        )
    if not any(row.runtime == "torch" for row in rows):
        lines.append("without torch: the meta-learner that made the bundle is not at hand (--model FOLDER)")
    return "\n".join(lines)


def _sample(bundle: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A support set with its labels and queries, from the golden samples; empty support where there is none."""
    folder, names = bundle / SAMPLES, [f"examples.{INPUT}.npy"]
    if (folder / "all_ways.support_x.npy").is_file():
        names += [f"all_ways.{part}.npy" for part in INTERFACES[ADAPT][0][:2]]
    try:
        examples, *support = (_array(folder / name) for name in names)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        what = " ".join(str(error).split())
        raise MetaloomError(f"{folder} has no samples to ask with ({what}): `metaloom verify` says more") from None
    first, labels = support or (examples[:0], np.empty(0, np.int64))
    return first, labels, examples


def _array(path: Path) -> np.ndarray:
    """The array in a file that has to be one: `np.load` would take an archive of several, too."""
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _torch_answers(
    metadata: Metadata, model: Path | None, support: np.ndarray, labels: np.ndarray
) -> Callable[[str], Iterator[tuple[str, Answer]]]:
    """torch's answers for a graph; none where the meta-learner is absent or another."""
    places = (model, model / metadata.method) if model else ()
    folder = next((each for each in places if _made_by(each, metadata)), None)
    if folder is None or len(support) == 0:
        return lambda graph: iter(())
    from metaloom.learner import Learner

    learner = Learner.load(folder)
    task = learner.adapt(support, labels)

    def answers(graph: str) -> Iterator[tuple[str, Answer]]:
        if graph == MODEL:
            yield graph, task.predict_proba
        else:
            yield graph, lambda x, y, query: learner.adapt(x, y).predict_proba(query)

    return answers


def _made_by(folder: Path, metadata: Metadata) -> bool:
    path = folder / "model.safetensors"
    return path.is_file() and sha256(path) == metadata.provenance.model_sha256


def _asking(session: onnxruntime.InferenceSession, graph: str, *inputs: Shaped[np.ndarray, ...]) -> Answer:
    named = dict(zip(INTERFACES[graph][0], inputs, strict=True))
    return lambda: session.run(None, named)


def _threaded(answer: Answer, threads: int, *inputs: Shaped[np.ndarray, ...]) -> Answer:
    import torch

    def asked() -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return answer(*inputs)

    return asked


def _alternating(asked: dict[str, Answer], threads: int, batch: int, seconds: float) -> Iterator[Timed]:
    taken: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(WARM):
        for ask in asked.values():
            ask()
    end = time.perf_counter() + seconds * len(asked)
    while time.perf_counter() < end or len(next(iter(taken.values()))) < FEWEST:
        for name, ask in asked.items():
            start = time.perf_counter()
            ask()
            taken[name].append((time.perf_counter() - start) * 1e3)
    for name, values in taken.items():
        runtime = "torch" if name.startswith("torch ") else "onnxruntime"
        yield Timed(name.removeprefix("torch "), runtime, threads, batch, np.array(values))
