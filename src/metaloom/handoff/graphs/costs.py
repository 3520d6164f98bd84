"""What a smaller form of model.onnx costs: size, latency, and accuracy on the same test episodes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float, Float32, Shaped

from metaloom.config import PARAMS, ExportSettings
from metaloom.errors import MetaloomError
from metaloom.handoff.graphs.learning import classify_graph, learn_graph
from metaloom.handoff.graphs.novelty import Novelty, novelty_of
from metaloom.handoff.graphs.session import session_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.graphs.variants import Examples, variant
from metaloom.handoff.metadata import Cost
from metaloom.handoff.shipped.verify import HEAD, INPUT, LOOSEST_TOLERANCE, OUTPUTS, SUPPORT_X, SUPPORT_Y, VARIANTS
from metaloom.learner import AdaptedTask, Learner
from metaloom.learner.intervals import mean_and_half_width
from metaloom.tasks import EpisodeTable

EPISODES_ADAPTED = 10  # of each setting, where a task changes the network: each needs a graph of its own
LEAST_TOLERANCE = 0.02
CALLS = 200  # for a latency


@dataclass(frozen=True)
class Trial:
    """Packed examples to calibrate with and episodes to measure on, which have rows of `examples`.

    Args:
        examples: of the data set.
        calibration: examples of training classes.
        episodes: by setting.
    """

    examples: Examples
    calibration: Shaped[np.ndarray, "example ..."]
    episodes: Mapping[str, EpisodeTable]


def variants(
    model: bytes, learner: Learner, asked: Trial, export: ExportSettings, about: Mapping[str, str]
) -> dict[str, tuple[bytes, Cost]]:
    """By the names of their files: the variants that params name, and what each costs.

    Args:
        model: model.onnx.
        learner: that it was adapted from.
        asked: what to calibrate with and measure on.
        export: which variants, and how much accuracy they may cost.
        about: goes into the files' metadata_props.

    Raises:
        MetaloomError: one loses more accuracy than the settings allow.
    """
    made = {}
    for precision in export.measured:
        data = variant(precision, model, asked.calibration, export, about)
        differences = _differences(precision, learner, asked, export)
        made[f"model.{precision}.onnx"] = (data, _cost(precision, data, model, differences, asked.examples[:1], export))
    return made


def variants_of_encoder(
    model: bytes,
    task: AdaptedTask,
    novelty: Novelty,
    learner: Learner,
    asked: Trial,
    export: ExportSettings,
    about: Mapping[str, str],
) -> dict[str, tuple[bytes, Cost]]:
    """The same where a frozen encoder sees the examples first: it alone is made smaller, as nearly all weights are its
    own. Each form of it sees each example once; heads are learned from what the whole one gives.

    Args:
        model: model.onnx.
        task: that it is of.
        novelty: likewise.
        learner: as of `variants`, and what follows it.
        asked: what to calibrate with and measure on.
        export: which variants, and how much accuracy they may cost.
        about: goes into the files' metadata_props.

    Raises:
        MetaloomError: one loses more accuracy than the settings allow.
    """
    made, encoding = {}, cast(Any, task.encoding)
    encoder = encoding.kind.encoder
    seen = np.unique(np.concatenate([table.rows for table in _asked(asked, export).values()] or [np.zeros(0, int)]))
    rows = encoder(asked.examples[seen])
    for precision in export.measured:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "encoder.onnx"
            taken = encoder.inputs(asked.calibration)
            file.write_bytes(variant(precision, encoder.checked().read_bytes(), taken, export, {}, encoder.given))
            smaller = encoding.behind(file)
            data = to_onnx(task, novelty, export, about, smaller)
            both = np.concatenate([rows, smaller.kind.encoder(asked.examples[seen])])
        differences = _through_encoders(learner, both, seen, asked, export)
        raw = encoding.unpacked(asked.examples[:1])
        made[f"model.{precision}.onnx"] = (data, _cost(precision, data, model, differences, raw, export))
    return made


def _asked(asked: Trial, export: ExportSettings) -> dict[str, EpisodeTable]:
    """The settings whose ways the graphs that learn have room for."""
    return {name: table for name, table in asked.episodes.items() if table.n_way <= export.max_ways}


def _through_encoders(
    learner: Learner, both: Float32[np.ndarray, "row embed"], seen: np.ndarray, asked: Trial, export: ExportSettings
) -> Iterator[Float[np.ndarray, " episode"]]:
    """Accuracy with queries by the smaller encoder less that with queries by the whole one, for each test episode.

    Args:
        learner: that learns from the whole one's rows.
        both: rows of the examples that are seen by the whole one, and then by the smaller one.
        seen: the examples' own rows.
        asked: with the episodes.
        export: for the ways that there is room for.
    """
    examples = torch.from_numpy(both)
    for table in _asked(asked, export).values():
        support, query = np.searchsorted(seen, table.support), np.searchsorted(seen, table.query)
        right = []
        for shift in (0, len(seen)):
            own = EpisodeTable(support, query + shift, table.shots)
            found = learner.answer(examples, own).argmax(dim=2).cpu().numpy()
            right.append((found == table.answers).mean(axis=1))
        yield right[1] - right[0]


def _cost(
    precision: str,
    data: bytes,
    model: bytes,
    of_each: Iterable[np.ndarray],
    raw: np.ndarray,
    export: ExportSettings,
) -> Cost:
    """What it costs, by the differences in accuracy in each setting; `raw` is one example as the graphs take it."""
    of_settings = list(of_each)
    if not of_settings:
        raise MetaloomError(
            f"{PARAMS}: export.variants: no setting of episodes has at most export.max_ways ({export.max_ways}) ways "
            f"to measure {precision} on: add one to episodes.settings, raise export.max_ways, or leave {precision} out"
        )
    differences = np.concatenate(of_settings)
    difference, half = mean_and_half_width(differences)
    if -difference > export.max_loss:
        interval = "no interval" if math.isnan(half) else f"± {100 * half:.1f}"
        loss = f"{-100 * difference:.1f} points of accuracy ({interval}) on {len(differences)} test episodes"
        raise MetaloomError(
            f"{PARAMS}: export.variants: {precision} loses {loss}, more than export.max_loss allows "
            f"({100 * export.max_loss:g}): leave it out, or raise export.max_loss"
        )
    own, models = _latencies(data, model, raw)
    return Cost(
        bytes=len(data),
        smaller=len(model) / len(data),
        milliseconds=own,
        milliseconds_of_model=models,
        difference=difference,
        ci95=None if math.isnan(half) else half,
        episodes=len(differences),
    )


def _differences(
    precision: str, learner: Learner, asked: Trial, export: ExportSettings
) -> Iterator[Float[np.ndarray, " episode"]]:
    """Accuracy of the variant less that of model.onnx, for each test episode."""
    if not learner.method.frozen:
        for table in asked.episodes.values():
            yield _with_own_body(precision, learner, asked, table.first(EPISODES_ADAPTED), export)
        return
    classify = classify_graph(learner, export, {})
    sessions = [session_of(data) for data in (classify, variant(precision, classify, asked.calibration, export, {}))]
    learn = session_of(learn_graph(learner, export, {}))
    for table in _asked(asked, export).values():
        yield _with_shared_body(sessions, learn, asked.examples, table)


def _with_shared_body(
    sessions: list[onnxruntime.InferenceSession],
    learn: onnxruntime.InferenceSession,
    examples: Examples,
    table: EpisodeTable,
) -> np.ndarray:
    """The network is the same for all episodes: their heads are learned in full precision, as the bundle's is."""
    labels, right = table.labels.astype(np.int64), []
    for support, query in zip(table.support_rows, table.query_rows, strict=True):
        head = learn.run(HEAD, {SUPPORT_X: examples[support], SUPPORT_Y: labels})
        inputs = {INPUT: examples[query], **dict(zip(HEAD, head, strict=True))}
        right.append([_accuracy(session.run(None, inputs)[0], table) for session in sessions])
    return _second_less_first(right)


def _with_own_body(
    precision: str, learner: Learner, asked: Trial, table: EpisodeTable, export: ExportSettings
) -> np.ndarray:
    right = []
    for support, query in zip(table.support_rows, table.query_rows, strict=True):
        task = learner.adapt(asked.examples[support], table.labels)
        model = to_onnx(task, novelty_of(task, asked.examples[support], table.labels), export, {})
        graphs = (model, variant(precision, model, asked.calibration, export, {}))
        inputs = {INPUT: asked.examples[query]}
        right.append([_accuracy(session_of(data).run(None, inputs)[0], table) for data in graphs])
    return _second_less_first(right)


def _accuracy(probabilities: Any, table: EpisodeTable) -> float:
    return float((np.asarray(probabilities).argmax(axis=1) == table.answers).mean())


def _second_less_first(right: Sequence[Sequence[float]]) -> np.ndarray:
    return np.diff(np.array(right), axis=1)[:, 0]


def variant_tolerance(data: bytes, samples: Path, names: Iterable[str]) -> float:
    """What a verifier allows a variant: twice its largest difference on golden samples, as processors differ.

    Args:
        data: the variant.
        samples: folder of the golden samples.
        names: of those that it is asked.
    """
    session, worst = session_of(data), LEAST_TOLERANCE / 2
    for name in names:
        expected = [np.load(samples / f"{name}.{output}.npy") for output in OUTPUTS]
        found = [np.asarray(each) for each in session.run(OUTPUTS, {INPUT: np.load(samples / f"{name}.{INPUT}.npy")})]
        worst = max(
            worst, *(float((np.abs(f - e) / np.maximum(e, 1)).max()) for f, e in zip(found, expected, strict=True))
        )
    return min(2 * worst, LOOSEST_TOLERANCE[VARIANTS[0]])


def _latencies(one: bytes, other: bytes, example: Examples) -> tuple[float, float]:
    """Medians in milliseconds, in turns, so that what else the machine does hits both."""
    sessions, taken = [session_of(one), session_of(other)], [[], []]
    for _ in range(CALLS):
        for session, times in zip(sessions, taken, strict=True):
            start = time.perf_counter()
            session.run(None, {INPUT: example})
            times.append((time.perf_counter() - start) * 1e3)
    first, second = (float(np.median(times)) for times in taken)
    return first, second
