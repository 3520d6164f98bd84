"""Size and latency of both bundles, side by side on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaloom.errors import MetaloomError
from metaloom.handoff.graphs.session import session_of
from metaloom.handoff.shipped.verify import INPUT, MODEL, RUNTIME_ERRORS, SAMPLES
from metaloom.judging.side import Side

CALLS = 40  # of each, by turns; the first few do not count
WARM = 5


@dataclass(frozen=True)
class BundleFigures:
    """Of model.onnx.

    Args:
        bytes: of the file.
        milliseconds: median for one example, one thread.
    """

    bytes: int
    milliseconds: float


def bundle_figures(champion: Side, challenger: Side) -> tuple[BundleFigures, BundleFigures] | None:
    """Of both; None where one of them has no bundle that can be had, or that answers."""
    try:
        graphs = [side.get(f"{side.outputs.bundle}/{MODEL}") for side in (champion, challenger)]
        samples = [side.get(f"{side.outputs.bundle}/{SAMPLES}/{INPUT}.npy") for side in (champion, challenger)]
        times = _by_turns(graphs, samples)
    except (MetaloomError, *RUNTIME_ERRORS, OSError, ValueError):
        return None
    one, other = (BundleFigures(graph.stat().st_size, own) for graph, own in zip(graphs, times, strict=True))
    return one, other


def _by_turns(graphs: list[Path], samples: list[Path]) -> list[float]:
    """Median milliseconds of each; call by call, so that what else the machine does hits both."""
    sessions = [session_of(graph.read_bytes()) for graph in graphs]
    examples = [np.load(sample, allow_pickle=False)[:1] for sample in samples]
    taken: list[list[float]] = [[] for _ in graphs]
    for _ in range(CALLS):
        for session, example, own in zip(sessions, examples, taken, strict=True):
            started = time.perf_counter()
            session.run(None, {INPUT: example})
            own.append(1000 * (time.perf_counter() - started))
    return [float(np.median(own[WARM:])) for own in taken]
