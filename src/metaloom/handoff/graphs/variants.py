"""Smaller forms of model.onnx: half precision, and eight bits calibrated on training classes.

onnxruntime's own tools make them. In half precision are convolutions and products with what lies between them; norms,
what prepares raw examples and the head stay as they are. In eight bits are the convolutions or
matrices of the network, one scale for each output channel, with seven bits of the weights used, so that no processor's
sums overflow (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import Shaped

from metaloom.config import ExportSettings
from metaloom.handoff.graphs.onnxfile import checked
from metaloom.handoff.shipped.verify import HEAD, INPUT

IN_HALF = {"Conv", "MatMul", "Gemm", "Relu", "MaxPool"}
CALIBRATION = 200  # examples
Examples = Shaped[np.ndarray, "item ..."]


def variant(
    precision: str,
    model: bytes,
    calibration: Iterable[np.ndarray],
    export: ExportSettings,
    about: Mapping[str, str],
    given: str = INPUT,
) -> bytes:
    """A graph in another precision.

    Args:
        precision: fp16 or int8.
        model: the graph.
        calibration: examples whose activations set the scales of int8, as the graph takes one.
        export: for the IR version.
        about: goes into the file's metadata_props.
        given: name of the graph's input of examples.
    """
    from onnxscript import optimizer

    folded = optimizer.optimize(onnx.load_model_from_string(model), input_size_limit=2**40, output_size_limit=2**40)
    made = _half(folded) if precision == "fp16" else _eight_bits(folded, calibration, given)
    made.ir_version = export.ir_version
    return checked(made, about)


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    before = _before(model)
    rest = _without(model, before)
    others = {node.op_type for node in rest.graph.node} - IN_HALF
    half = convert_float_to_float16(rest, keep_io_types=True, op_block_list=[*others])
    _put_before(half, model, before)
    sorted_model = ONNXModel(half)
    sorted_model.topological_sort()
    return sorted_model.model


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """Without what onnxruntime's quantiser says to the root logger."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _eight_bits(model: onnx.ModelProto, calibration: Iterable[np.ndarray], given: str) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with _errors_only(), tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _reader(model, calibration, given),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_quantize=_with_own_weights(model),
        )
        return onnx.load(target)


def _reader(model: onnx.ModelProto, calibration: Iterable[np.ndarray], given: str) -> Any:
    """The calibration examples one by one, as onnxruntime's quantisation asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    without_head = {  # where the graph takes a head, any will do: it is no part of the network
        value.name: np.zeros([size.dim_value or 2 for size in value.type.tensor_type.shape.dim], np.float32)
        for value in model.graph.input
        if value.name != given
    }

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.examples = islice(calibration, CALIBRATION)

        def get_next(self) -> Any:  # an example's inputs; None when there are no more
            example = next(self.examples, None)
            return None if example is None else {given: example[None], **without_head}

    return Reader()


def _with_own_weights(model: onnx.ModelProto) -> list[str]:
    """The network's convolutions and products; those of the head, and of preparing examples, are left."""
    weights = {tensor.name for tensor in model.graph.initializer if tensor.name not in HEAD}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm") and len(node.input) > 1 and node.input[1] in weights
    ]


def _before(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """What comes before the network: there a kind of example prepares its raw ones to the last bit."""
    own, after, before = set(_with_own_weights(model)), set[str](), []
    for node in model.graph.node:  # sorted: what a node reads is made before it
        if node.name in own or not after.isdisjoint(node.input):
            after.update(node.output)
        else:
            before.append(node)
    return before


def _without(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The model without its first nodes, whose values are further inputs."""
    rest, names = onnx.ModelProto(), {node.name for node in nodes}
    rest.CopyFrom(onnx.shape_inference.infer_shapes(model))
    kept = [node for node in rest.graph.node if node.name not in names]
    read = {name for node in kept for name in node.input}
    made = [info for info in rest.graph.value_info if any(info.name in node.output for node in nodes)]
    rest.graph.input.extend(info for info in made if info.name in read)
    for info in made:
        rest.graph.value_info.remove(info)
    del rest.graph.node[:]
    rest.graph.node.extend(kept)
    return rest


def _put_before(half: onnx.ModelProto, model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """The first nodes of a model again, with numbers of their own, as those of the rest are in half precision."""
    numbers = {tensor.name: tensor for tensor in model.graph.initializer}
    own = {name: f"{name}_exact" for node in nodes for name in node.input if name in numbers}
    for name, new in own.items():
        half.graph.initializer.add().CopyFrom(numbers[name])
        half.graph.initializer[-1].name = new
    first = onnx.GraphProto()
    first.node.extend(nodes)
    for node in first.node:
        node.input[:] = [own.get(name, name) for name in node.input]
    rest = list(half.graph.node)
    del half.graph.node[:]
    half.graph.node.extend([*first.node, *rest])
    read = {name for node in half.graph.node for name in node.input}
    numbers_read = [tensor for tensor in half.graph.initializer if tensor.name in read]
    del half.graph.initializer[:]
    half.graph.initializer.extend(numbers_read)
    inputs = [each for each in half.graph.input if each.name in {given.name for given in model.graph.input}]
    del half.graph.input[:]
    half.graph.input.extend(inputs)
