"""What an encoder of texts takes, and how it comes to take one input: ids with -1 behind each text's last."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from metaloom.config import EncoderSettings
from metaloom.errors import MetaloomError
from metaloom.kinds.encoded.encoder import EMBEDDING
from metaloom.kinds.encoded.file import opened
from metaloom.kinds.encoded.grafting import renamed
from metaloom.kinds.encoded.taking import inputs, output_of, shape_of, type_of
from metaloom.kinds.encoded.tokens import TOKENS

WHOLE = (TensorProto.INT64, TensorProto.INT32)
SENTENCE = "sentence_embedding"  # what sentence-transformers calls its output, beside that of each token
OF_TOKENS, OF_TEXTS = 3, 2  # axes of an output


class TakingIds(NamedTuple):
    """An encoder's inputs: ids, and where it has them a mask and types of tokens."""

    ids: onnx.ValueInfoProto
    mask: onnx.ValueInfoProto | None
    types: onnx.ValueInfoProto | None


def ids_taking_of(settings: EncoderSettings, model: onnx.ModelProto | None = None) -> TakingIds:
    """Which of its inputs are what.

    Args:
        settings: with a file.
        model: the file's, where it has been read already.

    Raises:
        MetaloomError: it has not the inputs of an encoder of texts.
    """
    found = inputs((model or opened(str(settings.file))).graph)
    whole = [each for each in found if each.type.tensor_type.elem_type in WHOLE]
    masks = [each for each in whole if "mask" in each.name]
    types = [each for each in whole if "type" in each.name]
    ids = [each for each in whole if each not in (*masks, *types)]
    flat = all(len(each.type.tensor_type.shape.dim) == 2 for each in whole)
    if len(whole) < len(found) or len(ids) != 1 or len(masks) > 1 or len(types) > 1 or not flat:
        shown = ", ".join(f"{each.name} {shape_of(each)} {type_of(each)}" for each in found) or "none"
        raise MetaloomError(
            f"{settings.file} has the inputs {shown}: an encoder of texts has ids, a mask and perhaps types of "
            "tokens, each (batch, tokens) of whole numbers"
        )
    return TakingIds(ids[0], masks[0] if masks else None, types[0] if types else None)


def from_ids(model: onnx.ModelProto, settings: EncoderSettings, taking: TakingIds, nothing: int) -> None:
    """The encoder takes `TOKENS` and gives `EMBEDDING`, in place; the mask is made in the graph.

    Args:
        model: the encoder.
        settings: for output and pooling.
        taking: its inputs.
        nothing: the id that stands where a text has ended.

    Raises:
        MetaloomError: it has no such output, or several.
    """
    graph = model.graph
    output = _output(graph, settings)
    nodes, constants = _before(taking, nothing)
    after, more = _after(f"net.{output.name}", settings.pooling or ("mean" if _axes(output) == OF_TOKENS else None))
    renamed(graph, lambda name: f"net.{name}")
    own = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*nodes, *own, *after])
    graph.initializer.extend([*constants, *more])
    graph.input.append(helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["batch", "token"]))
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", "embed"]))


def _output(graph: onnx.GraphProto, settings: EncoderSettings) -> onnx.ValueInfoProto:
    named = {each.name: each for each in graph.output}
    if settings.output is None and SENTENCE in named:
        return named[SENTENCE]
    return output_of(graph, settings, None, "(batch, embed) or (batch, tokens, embed)")


def _axes(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)


def _before(taking: TakingIds, nothing: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From the one input to the encoder's own."""
    constants = [
        numpy_helper.from_array(np.array(0, np.int64), "text.zero"),
        numpy_helper.from_array(np.array(nothing, np.int64), "text.nothing"),
    ]
    nodes = [
        helper.make_node("GreaterOrEqual", [TOKENS, "text.zero"], ["text.there"]),
        helper.make_node("Where", ["text.there", TOKENS, "text.nothing"], ["text.ids"]),
        helper.make_node("Cast", ["text.there"], ["text.mask"], to=TensorProto.INT64),
        helper.make_node("Mul", ["text.mask", "text.zero"], ["text.types"]),
    ]
    for value, made in zip(taking, ("text.ids", "text.mask", "text.types"), strict=True):
        if value is not None:
            kind = value.type.tensor_type.elem_type
            nodes.append(helper.make_node("Cast", [made], [f"net.{value.name}"], to=kind))
    return nodes, constants


def _after(given: str, pooling: str | None) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From the encoder's output to a row for each text."""
    node = helper.make_node
    if pooling is None:
        return [node("Identity", [given], [EMBEDDING])], []
    if pooling == "first":
        return [node("Gather", [given, "text.zero"], [EMBEDDING], axis=1)], []
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "text.one"),
        numpy_helper.from_array(np.array([-1], np.int64), "text.last"),
        numpy_helper.from_array(np.array(1, np.float32), "text.least"),
    ]
    nodes = [
        node("Cast", ["text.there"], ["text.weight"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["text.weight", "text.last"], ["text.column"]),
        node("Mul", [given, "text.column"], ["text.own"]),
        node("ReduceSum", ["text.own", "text.one"], ["text.sum"], keepdims=0),
        node("ReduceSum", ["text.weight", "text.one"], ["text.count"], keepdims=1),
        node("Max", ["text.count", "text.least"], ["text.counted"]),
        node("Div", ["text.sum", "text.counted"], [EMBEDDING]),
    ]
    return nodes, constants
