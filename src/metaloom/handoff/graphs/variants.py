"""Smaller forms of model.onnx: half precision, and eight bits calibrated on training classes; each with what it costs.

onnxruntime's own tools make them. In half precision are convolutions and products with what lies between them; norms,
the resizing and the head stay as they are. In eight bits are the convolutions or matrices of the network, one scale for
each output channel, with seven bits of the weights used, so that no processor's sums overflow
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float, UInt8
from onnxscript import optimizer

from metaloom.config import PARAMS, ExportSettings
from metaloom.errors import MetaloomError
from metaloom.handoff.graphs.learning import classify_graph, learn_graph
from metaloom.handoff.graphs.novelty import known_of
from metaloom.handoff.graphs.onnxfile import checked
from metaloom.handoff.graphs.session import session_of
from metaloom.handoff.graphs.task import to_onnx
from metaloom.handoff.shipped.verify import (
    FLAT,
    HEAD,
    INPUT,
    LOOSEST_TOLERANCE,
    OUTPUTS,
    SUPPORT_X,
    SUPPORT_Y,
    VARIANTS,
)
from metaloom.learner import Learner
from metaloom.learner.scoring import mean_and_half_width
from metaloom.tasks import EpisodeTable

IN_HALF = {"Conv", "MatMul", "Gemm", "Relu", "MaxPool"}
CALIBRATION = 200  # pictures
EPISODES_ADAPTED = 10  # of each setting, where a task changes the network: each needs a graph of its own
LEAST_TOLERANCE = 0.02
ASKED = 200  # times that a latency is measured
Images = UInt8[np.ndarray, "image height width channel"]


@dataclass(frozen=True)
class Cost:
    """What a variant saves and what it costs; the accuracies are of the same episodes.

    Args:
        bytes: of the file.
        smaller: than model.onnx, by this factor.
        milliseconds: median for one picture, one thread.
        milliseconds_of_model: model.onnx beside it in the same run.
        difference: of the mean accuracy, variant less model.onnx.
        ci95: half width of its 95% interval, paired by episode.
        episodes: that were asked.
    """

    bytes: int
    smaller: float
    milliseconds: float
    milliseconds_of_model: float
    difference: float
    ci95: float
    episodes: int


@dataclass(frozen=True)
class Asked:
    """Pictures to calibrate with and episodes to measure on; both have rows of `images`."""

    images: Images
    calibration: UInt8[np.ndarray, "picture height width channel"]
    episodes: Mapping[str, EpisodeTable]


def variants(
    model: bytes, learner: Learner, asked: Asked, export: ExportSettings, about: Mapping[str, str]
) -> dict[str, tuple[bytes, dict[str, Any]]]:
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
    for kind in export.variants:
        data = variant(kind, model, asked.calibration, export, about)
        differences = np.concatenate(list(_differences(kind, learner, asked, export)))
        difference, half = mean_and_half_width(differences)
        if -difference > export.max_loss:
            loss = f"{-100 * difference:.1f} ± {100 * half:.1f} points of accuracy on the test episodes"
            raise MetaloomError(
                f"{PARAMS}: export.variants: {kind} loses {loss}, more than export.max_loss allows "
                f"({100 * export.max_loss:g}): leave it out, or raise export.max_loss"
            )
        own, models = _latencies(data, model, asked.images[:1])
        cost = Cost(len(data), len(model) / len(data), own, models, difference, half, len(differences))
        made[f"model.{kind}.onnx"] = (data, asdict(cost))
    return made


def variant(kind: str, model: bytes, calibration: Images, export: ExportSettings, about: Mapping[str, str]) -> bytes:
    """A graph in another precision.

    Args:
        kind: fp16 or int8.
        model: the graph.
        calibration: pictures whose activations set the scales of int8.
        export: for the IR version.
        about: goes into the file's metadata_props.
    """
    folded = optimizer.optimize(onnx.load_model_from_string(model), input_size_limit=2**40, output_size_limit=2**40)
    made = _half(folded) if kind == "fp16" else _eight_bits(folded, calibration)
    made.ir_version = export.ir_version
    return checked(made, about)


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    others = {node.op_type for node in model.graph.node} - IN_HALF
    in_double = [node.name for node in model.graph.node if node.op_type == "MatMul" and _of_resizing(model, node)]
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=[*others], node_block_list=in_double)
    sorted_model = ONNXModel(half)
    sorted_model.topological_sort()
    return sorted_model.model


def _eight_bits(model: onnx.ModelProto, calibration: Images) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.pictures = iter(calibration[:CALIBRATION])

        def get_next(self) -> Any:  # a picture's inputs; None when there are no more
            picture = next(self.pictures, None)
            return None if picture is None else {INPUT: picture[None], **without_head}

    without_head = {  # where the graph takes a head, any will do: it is no part of the network
        value.name: np.zeros([size.dim_value or 2 for size in value.type.tensor_type.shape.dim], np.float32)
        for value in model.graph.input
        if value.name != INPUT
    }
    weights = {tensor.name for tensor in model.graph.initializer if tensor.name not in HEAD}
    nodes = [
        node.name
        for node in model.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm") and len(node.input) > 1 and node.input[1] in weights
    ]
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_quantize=nodes,
        )
        return onnx.load(target)


def _of_resizing(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """The resizing ends with the graph's one Round."""
    order = [each.name for each in model.graph.node]
    last = next(each.name for each in model.graph.node if each.op_type == "Round")
    return order.index(node.name) < order.index(last)


def _differences(
    kind: str, learner: Learner, asked: Asked, export: ExportSettings
) -> Iterator[Float[np.ndarray, " episode"]]:
    """Accuracy of the variant less that of model.onnx, for each test episode."""
    if not learner.method.frozen:
        for table in asked.episodes.values():
            yield _with_own_body(kind, learner, asked, table.first(EPISODES_ADAPTED), export)
        return
    classify = classify_graph(learner, export, {})
    sessions = [session_of(data) for data in (classify, variant(kind, classify, asked.calibration, export, {}))]
    learn = session_of(learn_graph(learner, export, {}))
    for table in asked.episodes.values():
        if table.n_way <= export.max_ways:
            yield _with_shared_body(sessions, learn, asked.images, table)


def _with_shared_body(
    sessions: list[onnxruntime.InferenceSession],
    learn: onnxruntime.InferenceSession,
    images: Images,
    table: EpisodeTable,
) -> np.ndarray:
    """The network is the same for all episodes: their heads are learned in full precision, as the bundle's is."""
    labels, right = table.labels.astype(np.int64), []
    for support, query in zip(table.support_rows, table.query_rows, strict=True):
        head = learn.run(HEAD, {SUPPORT_X: images[support], SUPPORT_Y: labels})
        inputs = {INPUT: images[query], **dict(zip(HEAD, head, strict=True))}
        right.append([_accuracy(session.run(None, inputs)[0], table) for session in sessions])
    return _second_less_first(right)


def _with_own_body(
    kind: str, learner: Learner, asked: Asked, table: EpisodeTable, export: ExportSettings
) -> np.ndarray:
    right = []
    for support, query in zip(table.support_rows, table.query_rows, strict=True):
        task = learner.adapt(asked.images[support], table.labels)
        model = to_onnx(task, known_of(task, asked.images[support], table.labels), export, {})
        graphs = (model, variant(kind, model, asked.calibration, export, {}))
        inputs = {INPUT: asked.images[query]}
        right.append([_accuracy(session_of(data).run(None, inputs)[0], table) for data in graphs])
    return _second_less_first(right)


def _accuracy(probabilities: Any, table: EpisodeTable) -> float:
    return float((np.asarray(probabilities).argmax(axis=1) == table.answers).mean())


def _second_less_first(right: Sequence[Sequence[float]]) -> np.ndarray:
    return np.diff(np.array(right), axis=1)[:, 0]


def variant_tolerance(data: bytes, samples: Path) -> float:
    """What a verifier allows a variant: twice its largest difference on the golden samples, as processors differ."""
    session, worst = session_of(data), LEAST_TOLERANCE / 2
    for path in samples.glob(f"*.{INPUT}.npy"):
        name = path.name.removesuffix(f".{INPUT}.npy")
        if name == FLAT:
            continue
        expected = [np.load(samples / f"{name}.{output}.npy") for output in OUTPUTS]
        found = [np.asarray(each) for each in session.run(OUTPUTS, {INPUT: np.load(path)})]
        worst = max(
            worst, *(float((np.abs(f - e) / np.maximum(e, 1)).max()) for f, e in zip(found, expected, strict=True))
        )
    return min(2 * worst, LOOSEST_TOLERANCE[VARIANTS[0]])


def _latencies(one: bytes, other: bytes, picture: Images) -> tuple[float, float]:
    """Medians in milliseconds, in turns, so that what else the machine does hits both."""
    sessions, taken = [session_of(one), session_of(other)], [[], []]
    for _ in range(ASKED):
        for session, times in zip(sessions, taken, strict=True):
            start = time.perf_counter()
            session.run(None, {INPUT: picture})
            times.append((time.perf_counter() - start) * 1e3)
    first, second = (float(np.median(times)) for times in taken)
    return first, second
