"""Put an encoder before an input of a graph: raw pictures → packed ones → embeddings, which the graph takes."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from metaloom.kinds.encoded.file import subgraphs

SHARED = "encoder."  # what the names of its weights begin with: several inputs of a graph share them


def put_before(model: onnx.ModelProto, name: str, parts: list[onnx.ModelProto]) -> None:
    """An input becomes that of the first part, in place; the last part's output is what it was.

    Args:
        model: with the input.
        name: of the input.
        parts: graphs of one input and one output, in order.
    """
    graph = model.graph
    value = next(each for each in graph.input if each.name == name)
    taken = f"{name}.embedding"
    renamed(graph, lambda each: taken if each == name else each)
    batch = value.type.tensor_type.shape.dim[0].dim_param
    given, front = name, []
    for place, part in enumerate(parts):
        own = onnx.GraphProto()
        own.CopyFrom(part.graph)
        made = taken if place == len(parts) - 1 else f"{name}.{place}.made"
        front += _copied(own, graph, given, made, f"{name}.{place}.")
        given = made
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*front, *others])
    value.CopyFrom(parts[0].graph.input[0])
    value.name = name
    value.type.tensor_type.shape.dim[0].dim_param = batch
    for axis, each in enumerate(value.type.tensor_type.shape.dim):
        if axis and each.dim_param:  # another input's sizes are its own
            each.dim_param = f"{name}.{each.dim_param}"


def _copied(own: onnx.GraphProto, graph: onnx.GraphProto, given: str, made: str, prefix: str) -> list[onnx.NodeProto]:
    """A copy's nodes under names of their own, from what is given to what is made; its weights go into the graph."""
    weights = {each.name for each in own.initializer}
    there = {each.name for each in graph.initializer}
    new = {own.input[0].name: given, own.output[0].name: made}
    shared = f"{SHARED}{prefix.split('.')[-2]}."
    renamed(own, lambda each: new.get(each) or (f"{shared}{each}" if each in weights else f"{prefix}{each}"))
    graph.initializer.extend(each for each in own.initializer if each.name not in there)
    return list(own.node)


def renamed(graph: onnx.GraphProto, new: Callable[[str], str]) -> None:
    """All names in a graph and in the bodies of its loops and branches, in place."""
    for node in graph.node:
        node.input[:] = [new(each) if each else "" for each in node.input]
        node.output[:] = [new(each) if each else "" for each in node.output]
        node.name = new(node.name) if node.name else ""
        for part in subgraphs(node):
            renamed(part, new)
    for each in (*graph.initializer, *graph.input, *graph.output):
        each.name = new(each.name)
