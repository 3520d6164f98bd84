"""A stranger's ONNX file → one graph of ONNX's own operators with all its weights in it, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx import inliner
from onnx.external_data_helper import load_external_data_for_model
from onnx.version_converter import ConvertError, convert_version

from metaloom.errors import MetaloomError

OWN = ("", "ai.onnx")  # names of ONNX's own set of operators
LARGEST = 2**31 - 1  # bytes of a protocol buffer


def opened(path: str | Path) -> onnx.ModelProto:
    """The file as it is, without the weights that it keeps elsewhere.

    Raises:
        MetaloomError: it is absent, or no ONNX file.
    """
    path = Path(path)
    if not path.is_file():
        raise MetaloomError(f"{path} not found: encoder.file names an ONNX file, or is null for none")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        raise MetaloomError(f"{path} is no ONNX file: export the encoder to ONNX") from None
    if not model.graph.node or not model.opset_import:
        raise MetaloomError(f"{path} is no ONNX file: export the encoder to ONNX")
    return model


def whole(path: str | Path, opset: int, ir_version: int) -> onnx.ModelProto:
    """The file with all its weights, in these versions of ONNX, without functions and without its maker's notes.

    Raises:
        MetaloomError: it is absent or no ONNX file, has operators that are not ONNX's own, keeps weights outside its
            folder or in a file that is missing, or cannot be had in these versions.
    """
    path, model = Path(path), opened(path)
    del model.training_info[:]
    model = inliner.inline_local_functions(model)  # first, as a function's weights may lie elsewhere, too
    _bring_weights(model, path)
    if foreign := sorted({f"{node.op_type} ({node.domain})" for node in nodes(model.graph) if node.domain not in OWN}):
        raise MetaloomError(f"{path} has operators that are not ONNX's own: {', '.join(foreign)}; export it without")
    model = _converted(model, path, opset)
    _lift_constants(model.graph)
    _name_inputs(model.graph)
    _strip(model)
    model.ir_version = ir_version
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise MetaloomError(f"{path}: ONNX's checker refuses it: {' '.join(str(error).split())}") from None
    return model


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All of a graph's nodes, those of its loops and branches among them."""
    for node in graph.node:
        yield node
        for part in subgraphs(node):
            yield from nodes(part)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a loop or a branch."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else []
        yield from attribute.graphs


def _bring_weights(model: onnx.ModelProto, path: Path) -> None:
    """Weights that stand in other files, which have to lie beside it or below."""
    folder, total = path.parent.resolve(), model.ByteSize()
    names = {name for tensor in _outside(model.graph) for name in _places(tensor)}
    for name in sorted(names):
        place = PurePosixPath(name.replace("\\", "/"))
        target = (folder / place).resolve()
        if place.is_absolute() or not target.is_relative_to(folder):
            raise MetaloomError(f"{path} keeps weights in {name}, outside its folder: export it as one file")
        if not target.is_file():
            raise MetaloomError(f"{path} keeps weights in {name}, which is not there: put it beside {path.name}")
        total += target.stat().st_size
    if total > LARGEST:
        raise MetaloomError(f"{path} has {total / 2**30:.1f} GiB of weights, and a bundle holds 2: take a smaller one")
    if not names:
        return
    try:
        load_external_data_for_model(model, str(folder))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise MetaloomError(f"{path}: its weights cannot be read ({' '.join(str(error).split())})") from None
    if left := [tensor.name for tensor in _outside(model.graph)]:
        raise MetaloomError(f"{path} keeps sparse weights ({left[0]}) in another file: export it as one file")


def _outside(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    tensors = [*graph.initializer, *(part for each in graph.sparse_initializer for part in (each.values, each.indices))]
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
        for part in subgraphs(node):
            yield from _outside(part)
    yield from (each for each in tensors if each.data_location == onnx.TensorProto.EXTERNAL)


def _places(tensor: onnx.TensorProto) -> list[str]:
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _converted(model: onnx.ModelProto, path: Path, opset: int) -> onnx.ModelProto:
    found = next((each.version for each in model.opset_import if each.domain in OWN), 0)
    if found > opset:
        raise MetaloomError(f"{path} has opset {found}, newer than the bundle's: set export.opset to {found}")
    if found < opset:
        try:
            model = convert_version(model, opset)
        except (ConvertError, RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())
            raise MetaloomError(
                f"{path} has opset {found}, and does not become {opset} ({why}): export it so"
            ) from None
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    return model


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Constants of the graph itself become weights: two copies of its nodes then share them."""
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            kept.append(node)
            continue
        lifted = graph.initializer.add()
        lifted.CopyFrom(value)
        lifted.name = node.output[0]
    del graph.node[:]
    graph.node.extend(kept)


def _name_inputs(graph: onnx.GraphProto) -> None:
    """Those of a caller alone: old files list their weights as well."""
    weights = {each.name for each in graph.initializer}
    own = [each for each in graph.input if each.name not in weights]
    del graph.input[:]
    graph.input.extend(own)


def _strip(model: onnx.ModelProto) -> None:
    """What the exporter has written of the machine that it ran on, and sizes that follow from the operators."""
    graph = model.graph
    for part in (model, graph, *nodes(graph), *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
